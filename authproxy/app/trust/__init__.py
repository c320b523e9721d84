"""Where systems keep whom they trust, and how a certificate gets in and out again: for `trust` alone.

store.py      what all have in common
anchors.py    a directory of certificates, of which a program of the distribution makes what others read
keeper.py     a program that keeps them: a keychain, the store of Windows, the databases of browsers (NSS)
system.py     which of them this system has

How they differ stands in tables. No shell is used, and what fails leaves a store as it was.
"""
