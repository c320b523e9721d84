"""Proving each route end to end, a step at a time, for `authproxy doctor`.

    configuration.py   is the route's own part of the file sound, do its secrets resolve?
    network.py         DNS, TCP, TLS: by `net/dial.py`, as the data path dials
    token.py           the grant, by the proxy's own stack of token sources
    upstream.py        one request with the credential, by the data path's own sender
    running.py         does the proxy of this configuration run, who has its port?
    examination.py     all of them, in their order

What is judged is judged in modules without I/O (`answers.py`, `certificate.py`, `advice.py`, `clock.py`). A
credential goes where the proxy would send it, and nowhere else; what is tried beyond that carries none.
"""
