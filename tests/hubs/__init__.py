"""Hubs on loopback that misbehave on demand: the product's `serve` application with faults put in between.

    with FaultyHub(root) as hub:                 # root/<org>/<name>/ are the repositories, as for `serve`
        hub.url, hub.env                         # "http://127.0.0.1:PORT"; the endpoint variables of all hubs
        hub.fault("flip", "*.safetensors", times=1, after=1000)
        hub.fault(429, times=2, retry_after=1)   # any HTTP status is a kind of fault
        hub.fault(503, "/api/*")                 # the listings, not the files
        hub.fault("reset", "/*")                 # everything: the hub is dead
        hub.clear()
        hub.requests                             # list of Seen: method, path, headers, host, file, sent, ...
        hub.downloads("*.bin"), hub.sent         # GETs of files; the bytes of files that left
        hub.wait(lambda: hub.sent > 1000)        # for example before killing a download

`fault(kind, path="*", times=None, after=0, **how)`. path is a glob (`*` crosses folders) for the file's
path in its repository; one that starts with "/" is for the URL's path instead, so that listings can be
hit too. times: on how many answers (None: all). GET and POST are hit, HEAD only with `head=True`. Of
several faults the first strikes; but a `redirect` goes before the others (so they strike where it leads),
a `delay` on top. Every kind works with every protocol:

    kind            what the client gets                          options
    400..599        that status; JSON like the hubs'              retry_after=seconds, body=text
    flip            one wrong byte at file offset `after`         (spared: answers without that byte)
    truncate        the right length, then only `after` bytes     after=0: half of them
    long-length     a Content-Length that promises more           by=1000
    short-length    a Content-Length that promises less, obeyed   by=1
    no-length       chunked, no Content-Length
    ignore-range    200 and the whole file
    wrong-range     206, one byte further than asked
    part            206, half of what was asked, and says so
    stall           silence after `after` bytes                   seconds=None (for good), until=condition
    hang            no answer at all, not even headers            seconds=None, until=condition
    reset           the connection breaks after `after` bytes
    slow            a trickle                                     rate=bytes a second (10000), flows=condition
                                                                  without which nothing comes before `clear`
    delay           the answer comes late                         seconds=0.05, until=condition
    html            200 and a web page
    encoding        gzip, and says so
    lfs-pointer     the pointer text instead of the file
    etag-changes    another ETag with every answer
    empty           200 without a byte
    expired         403 as object storage says it of a stale URL
    rejects         a refusal that repeats what was sent          status=401
                    (only to who sends credentials)
    redirect        302 to the same file elsewhere                to="other-host", "other-port", "same", URL,
                                                                  "plain" (from a hub with TLS to one without)
    evil-name       listings hold one more file, called `path`    "../evil", "/etc/x", "CON", ...
    wrong-digest    listings hold wrong digests                   (best left on, without times)
    wrong-size      listings hold wrong sizes                     by=1

Tokens: `FaultyHub(root, tokens={"secret"})`; the hosts that redirects lead to ask for none, as storage does.
`FaultyHub(root, url_seconds=60, clock=clock)` signs OpenXLab URLs that run out by that clock;
`FaultyHub(root, tls=context)` speaks https. Below `hub.url + "/web"` the repositories are directories of a
plain web server.
"""

from tests.hubs.hub import FaultyHub, Seen

__all__ = ["FaultyHub", "Seen"]
