"""Write `configs/schema.json`, the JSON Schema of the settings, for editors. A test compares the two."""

from __future__ import annotations

import json
from pathlib import Path

from edge_mnv2.config import RunConfig

if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "configs" / "schema.json"
    target.write_text(json.dumps(RunConfig.model_json_schema(), indent=2) + "\n", encoding="utf-8")
    print(target)
