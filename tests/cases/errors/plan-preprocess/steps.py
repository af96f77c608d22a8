def nothing_at_all(window):
    return window


def spectrum(window):
    return abs(window[:512])


def broken(window):
    return window["x"]


def scale_outputs(outputs):
    return {name: 2 * values for name, values in outputs.items()}
