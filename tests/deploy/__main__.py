"""Write what in deploy/grafana follows from something else: `python -m tests.deploy`."""

from __future__ import annotations

from tests.deploy.files import GRAFANA, files

if __name__ == "__main__":
    for name, content in files().items():
        (GRAFANA / name).write_text(content)
