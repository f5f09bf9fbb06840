"""Disks and network cards of domUs, domains' ends, migration, PV GRUB and traces, again with Debian 13 in dom0 and the domUs."""
import pytest

from test_block import *         # noqa: F401, F403
from test_lifecycle import *     # noqa: F401, F403
from test_migrate import *       # noqa: F401, F403
from test_network import *       # noqa: F401, F403
from test_power import *         # noqa: F401, F403
from test_pvgrub import *        # noqa: F401, F403
from test_tracing import test_xentrace_records_chosen_events_alone, test_xentrace_records_what_xenalyze_reads     # noqa: F401

pytestmark = pytest.mark.long


@pytest.fixture
def dom0(debian13_dom0):
    return debian13_dom0
