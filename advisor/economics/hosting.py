"""The machine that local models are paid for, as the scenario and the dated tables have it."""

from __future__ import annotations

from advisor.economics.bills import Machine
from advisor.scenario.model import Scenario
from backends.hardware import Hardware, default_price


def machine(scenario: Scenario, hardware: Hardware) -> Machine:
    """The scenario's machine; its price an hour is the default of this one where the scenario gives none."""
    plan, usd = scenario.hosting, scenario.hosting.usd_per_hour
    if usd is None:
        usd = default_price(hardware, on_gpu=hardware.gpu is not None).usd
    return Machine(usd, plan.utilisation, plan.always_on)
