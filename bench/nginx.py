"""nginx as a plain reverse proxy: the yardstick every ratio is taken to."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from bench.peers import Command

_TEMPLATE: Final = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 256k;
    client_max_body_size 32m;
    keepalive_requests 1000000000;
    upstream bench {{
        server 127.0.0.1:{upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location / {{
            proxy_pass http://bench;
        }}
        location /streamed/ {{
            proxy_pass http://bench/;
            proxy_buffering off;
        }}
    }}
}}
"""


def nginx_command(folder: Path, port: int, upstream: int) -> Command | None:
    """Write the configuration into `folder` and say how to run it; None if nginx is not installed.

    Whole answers are asked at /v1/..., streamed ones at /streamed/v1/..., where nothing is buffered.
    """
    binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if binary is None:
        return None
    user = "user root;" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        _TEMPLATE.format(folder=folder, port=port, upstream=upstream, user=user), encoding="utf-8"
    )
    told = subprocess.run([binary, "-v"], capture_output=True, text=True, check=False, timeout=10)
    words = [binary, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(file)]
    return Command(words, told.stderr.strip().removeprefix("nginx version: "))
