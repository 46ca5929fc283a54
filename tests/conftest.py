"""What all tests share."""

from __future__ import annotations

import pytest
import torch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, none is usable here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
