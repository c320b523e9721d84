"""What tests of more than one directory share: it starts things, and stands in for things."""
