"""pvisor-save-helper and pvisor-template with the tools of Debian 13, by name: a guest without PAE is saved, and migrated while it runs;
copies of a saved domain."""
import pytest

import test_suspend
import test_template
from test_suspend import guest                                                                      # noqa: F401
from test_suspend import test_without_pae_a_migration_that_fails_leaves_it_running_and_not_logged     # noqa: F401
from test_suspend import test_without_pae_it_is_migrated_while_it_runs                              # noqa: F401
from test_template import copies, template, test_is_a_domain_as_others, test_two_of_one_run_at_once, tool        # noqa: F401

pytestmark = [pytest.mark.pvisor_only, pytest.mark.long]


@pytest.fixture
def dom0(debian13_dom0):
    return debian13_dom0


def test_without_pae_it_lives_on(dom0, guest):
    test_suspend.test_lives_on(dom0, guest, "pt32", "new")


def test_of_the_test_kernel_without_devices(dom0, guest, tool):
    test_template.test_of_either_format(dom0, guest, tool, "pt32p")
