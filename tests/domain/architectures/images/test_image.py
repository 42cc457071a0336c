from dataclasses import replace

import numpy as np
from tests.fakes import fake_span


def test_features_that_follow_each_other_see_each_other() -> None:
    is_feature = np.array([0, 1, 1, 0, 0, 1, 1, 1, 0, 1], bool)
    span = replace(fake_span(b"", 100, len(is_feature), sees_forward=True), is_feature=is_feature)
    assert span.visible_until().tolist() == [0, 103, 103, 0, 0, 108, 108, 108, 0, 110]
    assert not replace(span, sees_forward=False).visible_until().any()
