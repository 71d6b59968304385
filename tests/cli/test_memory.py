"""What the command line sets for the memory of its process."""

import gc

from zflipon.cli.memory import GARBAGE_THRESHOLDS, collect_garbage_rarely, end_without_collection


def test_garbage_is_collected_rarely():
    before = gc.get_threshold()
    try:
        collect_garbage_rarely()
        assert gc.get_threshold() == GARBAGE_THRESHOLDS
    finally:
        gc.set_threshold(*before)


def test_the_last_collection_visits_no_object_that_exists():
    try:
        end_without_collection()
        assert gc.get_freeze_count() > 1000
        assert len(gc.get_objects()) < 1000
    finally:
        gc.unfreeze()
