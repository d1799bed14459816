"""The one list of services. `python -m services <name>` = `rondo serve <name>`."""

import sys
from importlib import import_module

from pydantic import ValidationError

from rondo_common import settings

SERVICES = {
    "ingestion": "services.ingestion.main",
    "profiles": "services.profiles.main",
    "segmentation": "services.segmentation.main",
    "campaigns": "services.campaigns.main",
    "rhythm": "services.rhythm.main",
    "delivery-email": "services.delivery.main",
    "delivery-sms": "services.delivery.main",
    "delivery-messaging": "services.delivery.main",
    "links": "services.links.main",
    "gateway": "services.gateway.main",
    "dashboard": "services.dashboard.main",
    "insights": "services.insights.main",
    "community": "services.community.main",
    "egress": "services.egress.main",
    "capture": "services.capture.main",
}
"""Process name to the module whose `main(settings) -> exit code` runs it."""


def main(arguments: list[str]) -> int:
    """Run one service until it is told to stop. Exit codes: 0 stopped, 1 failed, 2 wrong call."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"usage: python -m services <name>\nname: {' '.join(SERVICES)}", file=sys.stderr)
        return 2
    name = arguments[0]
    try:
        configured = settings.load()
    except ValidationError as e:
        for error in e.errors():
            variable = "RONDO_" + "_".join(str(p) for p in error["loc"]).upper()
            print(f"{variable}: {error['msg']}", file=sys.stderr)
        return 2
    module = import_module(SERVICES[name])
    return int(module.main(configured.model_copy(update={"service": name})))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
