"""The way to other hosts: proxies, certificates, addresses that are tried at once.

Listings and bytes go by it alike, and what the environment says of it is understood here and nowhere else.
"""
