"""What every metric keeps."""

from xbench.testing.common import common_checks

METRIC_CHECKS = common_checks("metric")
