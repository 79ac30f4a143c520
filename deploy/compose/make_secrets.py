"""Makes the secrets of the sandbox: make_secrets.py FOLDER. Those that exist are kept."""

import pathlib
import secrets
import sys

folder = pathlib.Path(sys.argv[1])
for name in ("jwt.secret", "admin.token", "rabbitmq.password"):
    path = folder / name
    if not path.exists():
        path.write_text(secrets.token_urlsafe(48))
        # Containers of several users read it, and only they see the volume.
        path.chmod(0o444)
