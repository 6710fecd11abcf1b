"""How hypothesis searches: nothing that a busy machine or chance can turn red.

`gate` is what every run uses. Each example is the same in every run until its test changes, and no real time is
asserted: hypothesis' own default fails a test whose body took more than 200 ms of the wall clock once, or whose
examples took a second to draw, and on a busy machine any body does. `sweep` (make sweep) is the same with three
times the examples; `search` (make search) draws others each time, and keeps those that failed. `first` is `gate`, but a failure shows the
first example that has it, and none smaller is looked for: whoever plants mistakes expects one.
"""

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "gate",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("sweep", settings.get_profile("gate"), max_examples=300)
settings.register_profile(
    "first", settings.get_profile("gate"), phases=[Phase.generate], report_multiple_bugs=False
)
settings.register_profile(
    "search", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gate")
