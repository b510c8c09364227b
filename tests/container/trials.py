"""The list of trials. One is a function of a session and its images, with @trial("what is shown") above it."""

TRIALS = []  # (name, core, function)


def trial(name, core=False):
    def register(function):
        TRIALS.append((name, core, function))
        return function
    return register
