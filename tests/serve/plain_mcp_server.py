"""An MCP server without the SDK, so that it starts at once: JSON-RPC, a line a message. Tools: add, hang, die."""

import json
import os
import sys
import time

TOOLS = [
    {"name": name, "description": f"{name} it", "inputSchema": {"type": "object", "properties": {}}}
    for name in ("add", "hang", "die")
]


def answer(method: str, params: dict) -> dict:
    if method == "initialize":
        info = {"name": "plain", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call" and params["name"] == "add":
        numbers = params["arguments"]
        return {"content": [{"type": "text", "text": f"{numbers['a'] + numbers['b']} from {os.getpid()}"}]}
    if method == "tools/call" and params["name"] == "hang":
        time.sleep(60)
    if method == "tools/call":
        os._exit(3)
    raise KeyError(method)


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    try:
        reply = {"result": answer(message["method"], message.get("params") or {})}
    except KeyError:
        reply = {"error": {"code": -32601, "message": "no such method"}}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **reply}), flush=True)
