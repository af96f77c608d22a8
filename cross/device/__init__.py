"""The device's side of a deploy: it runs there as root, with the device's own Python and nothing else. `deploy.py` sends
this folder as one file, `device.pyz`.

    receive   what is missing of a bundle, into a cache by hash; what was cut off goes on where it ended          bundle
    verify    all of it, by the verifier that is on the device, before anything of it runs                        bundle
    install   the bundle's own `install`, into a release folder of its own                                        bundle
    check     the configuration and its models, with the new release, in a sandbox like the service's             config
    switch    stop, one rename, start, watch; back to the release before if it does not do well          switch, service

The switch is done by a unit of its own, edged-switch.service, so that it comes to its end also when ssh is cut off. It notes on
disk what it is about to do: after a power cut the same unit, at boot, goes back to the release before.

`orders` has what a laptop can ask for, `verdict` and `settings` what is decided without looking at anything. It speaks in lines
of JSON on standard output: {"need": ...}, {"say": ...}, and {"end": 0, "say": ...} as the last one.
"""
