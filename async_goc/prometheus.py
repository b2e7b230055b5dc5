"""Count and time calls for Prometheus; needs the extra ``prometheus``."""

from collections.abc import Iterator
from dataclasses import asdict
from threading import Lock
from typing import Final
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ._call import Event
from ._locks import all_statistics

# Seconds: a hit takes less than one of a thousand.
_BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_GAUGES: Final = {
    "held": "Keys that are held.",
    "waiting": "Calls that wait for a key.",
}
_COUNTERS: Final = {
    "acquired": "Keys given to calls.",
    "waited": "Waits that have begun.",
    "collapsed": "Calls that found the row after waiting.",
    "timeouts": "Waits that wait_timeout has ended.",
    "deadlocks_avoided": "Waits that would have closed a cycle.",
    "reclaimed": "Keys taken back from transactions that had ended unnoticed.",
}


class _Metrics:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ("verb", "model")
        self.calls = Counter(
            "async_goc_calls",
            "Calls that have ended, and how.",
            (*names, "outcome"),
            registry=registry,
        )
        self.seconds = Histogram(
            "async_goc_seconds",
            "Seconds that calls have taken.",
            names,
            buckets=_BUCKETS,
            registry=registry,
        )
        self.waited = Histogram(
            "async_goc_waited_seconds",
            "Seconds that calls have waited in this process, if they have.",
            names,
            buckets=_BUCKETS,
            registry=registry,
        )
        registry.register(_LocksCollector())


class _LocksCollector(Collector):
    """Tells what all registries of keyed locks hold, when it is asked."""

    def collect(self) -> Iterator[Metric]:
        figures = asdict(all_statistics())
        for name, text in _GAUGES.items():
            full = f"async_goc_locks_{name}"
            yield GaugeMetricFamily(full, text, value=figures[name])
        for name, text in _COUNTERS.items():
            full = f"async_goc_locks_{name}"
            yield CounterMetricFamily(full, text, value=figures[name])


_known: Final[WeakKeyDictionary[CollectorRegistry, _Metrics]] = WeakKeyDictionary()
_guard: Final = Lock()


class Metrics:
    """An observer that counts and times calls for Prometheus.

    It adds these metrics to the registry:

    - ``async_goc_calls_total``, by verb, model and outcome;
    - ``async_goc_seconds``, a histogram, by verb and model;
    - ``async_goc_waited_seconds``, a histogram of the calls that have waited in this
      process for another one, by verb and model;
    - ``async_goc_locks_held`` and ``async_goc_locks_waiting``, which are gauges, and
      ``async_goc_locks_timeouts_total``, and so on for each figure of
      :class:`~async_goc.LockStatistics`, over all :class:`~async_goc.KeyedLocks` of the
      process.

    The model is the name of its class, so that two of one name are counted together;
    it is empty for the attempts that :func:`~async_goc.run_in_transaction` reports.

    Where several processes share the metrics (``PROMETHEUS_MULTIPROC_DIR``), those of
    the locks are not among them: the client has no way to add up what is only asked for
    in a scrape.

    Example:
        >>> policy = Policy(observer=Metrics())
        >>> sessions = async_sessionmaker(engine, info={"async_goc.policy": policy})

    Args:
        registry: Where to add the metrics. ``None``: the client's global one. A
            second observer for a registry adds to the metrics of the first.

    Raises:
        ValueError: The registry has other metrics of these names.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = REGISTRY if registry is None else registry
        with _guard:
            known = _known.get(registry)
            if known is None:
                known = _known[registry] = _Metrics(registry)
        self._metrics = known

    def __call__(self, event: Event, /) -> None:
        """Count one call."""
        model = "" if event.model is object else event.model.__name__
        names = (event.verb, model)
        metrics = self._metrics
        metrics.calls.labels(*names, event.outcome.value).inc()
        metrics.seconds.labels(*names).observe(event.elapsed)
        if event.waited:
            metrics.waited.labels(*names).observe(event.waited)
