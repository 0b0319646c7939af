"""GET /docs: the OpenAPI document as one page to read, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}h2{border-bottom:1px solid #ccc;margin-top:2.5rem}"
    "h3{font-family:ui-monospace,monospace;font-size:1rem;margin:1.8rem 0 .3rem}"
    "table{border-collapse:collapse;margin:.4rem 0}td,th{text-align:left;vertical-align:top;"
    "padding:.15rem 1rem .15rem 0}code{font-family:ui-monospace,monospace}"
    ".method{display:inline-block;min-width:4.5rem;font-weight:bold}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}h2{border-color:#444}}"
)


def page(document: Mapping[str, Any]) -> str:
    """Return the page (HTML)."""
    title = escape(document["info"]["title"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title} {escape(document['info']['version'])}</h1>",
        *(f"<p>{escape(text)}</p>" for text in document["info"]["description"].split("\n\n")),
        "<p>For programs: <a href=/openapi.json>/openapi.json</a></p>",
    ]
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(path, method, operation))
    for tag, operations in by_tag.items():
        parts += [f"<h2>{escape(tag)}</h2>", *operations]
    parts.append("<h2>Shapes</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(_shape(name, schema))
    return "\n".join(parts)


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        (f"<code>{escape(one['name'])}</code> ({escape(one['in'])})", one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    body = operation.get("requestBody", {}).get("content", {})
    rows += [
        (f"body <code>{escape(kind)}</code>", _type(content["schema"]))
        for kind, content in body.items()
    ]
    rows += [
        (f"<b>{escape(status)}</b>", answer.get("description", "") + _forms(answer))
        for status, answer in operation["responses"].items()
    ]
    return (
        f"<h3><span class=method>{escape(method.upper())}</span> {escape(path)}</h3>"
        f"<p><b>{escape(operation['summary'])}.</b> {escape(operation.get('description', ''))}</p>"
        + _table(rows)
    )


def _forms(answer: Mapping[str, Any]) -> str:
    kinds = [
        f"{kind} {_type(content['schema'])}" if "$ref" in content.get("schema", {}) else kind
        for kind, content in answer.get("content", {}).items()
        if kind != "application/problem+json"
    ]
    return f" ({', '.join(kinds)})" if kinds else ""


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    rows = [
        (f"<code>{escape(field)}</code>", f"{_type(value)}. {value.get('description', '')}")
        for field, value in schema.get("properties", {}).items()
    ]
    if "enum" in schema:
        rows.append(("one of", ", ".join(map(str, schema["enum"]))))
    about = escape(schema.get("description", ""))
    return f"<h3 id={escape(name)}>{escape(name)}</h3><p>{about}</p>" + _table(rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return str(schema.get("format") or schema.get("type") or schema.get("title", "any"))


def _table(rows: list[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td>{name}</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{lines}</table>"
