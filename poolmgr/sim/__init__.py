"""A cluster in memory behind the controller's own ports, for `poolmgr demo` and for tests.

Start at `fleet.SimulatedFleet`; `desktop_day.desktop_day` makes one with a day's demand.
"""

from poolmgr.sim.desktop_day import DesktopDay, desktop_day
from poolmgr.sim.fleet import NodeShape, SimulatedFleet

__all__ = ["DesktopDay", "NodeShape", "SimulatedFleet", "desktop_day"]
