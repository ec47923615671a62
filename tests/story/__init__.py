"""The story the exporter was made for, on real engines: its numbers against packets, step by step."""

import pytest

pytest.register_assert_rewrite("tests.story.gauges")
