"""What lies in `deploy/`, and the image: run as it says, or read by the program that it is for."""
