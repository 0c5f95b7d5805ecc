"""What every data set keeps."""

from xbench.testing.common import common_checks

DATASET_CHECKS = common_checks("dataset")
