"""`streamrec config`: each value and where it came from."""

from __future__ import annotations

from stream.cli.options import ConfigFile, Json, print_json
from stream.config import load_with_origin


def show(config: ConfigFile = None, json: Json = False) -> None:
    """Show each setting, its value and where it came from; passwords are hidden.

    \b
    Examples:
      streamrec config
      STREAMREC_KAFKA__BOOTSTRAP=broker:9092 streamrec config --json
    """
    settings = load_with_origin(config).settings
    if json:
        print_json(
            {
                setting.key: {
                    "value": setting.value,
                    "origin": setting.origin,
                    "description": setting.description,
                }
                for setting in settings
            }
        )
        return
    keys = max(len(setting.key) for setting in settings)
    values = max(len(str(setting.value)) for setting in settings)
    for setting in settings:
        print(f"{setting.key:<{keys}}  {setting.value!s:<{values}}  {setting.origin}")
