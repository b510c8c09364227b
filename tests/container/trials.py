"""The list of trials: whoever defines one writes @trial("what is shown") above a function of a session and its images."""

TRIALS = []  # (name, core, function)


def trial(name, core=False):
    def register(function):
        TRIALS.append((name, core, function))
        return function
    return register
