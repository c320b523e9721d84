"""The data path: who may ask, which route, which headers, and the exchange with the upstream.

handler → guard → router → headers → body → forward ⇄ upstream
"""
