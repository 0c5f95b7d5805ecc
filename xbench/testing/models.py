"""What every classifier keeps."""

from xbench.testing.common import common_checks

MODEL_CHECKS = common_checks("model")
