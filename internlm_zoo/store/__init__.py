"""The local store: blobs under their sha256, releases as folders of links to them."""
