"""Pages for people: the front page and the OpenAPI document; they load nothing from elsewhere."""

from typing import Any

from flask import Response, render_template_string

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
code, h3 { font-family: ui-monospace, monospace; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 2rem 0 0; overflow-wrap: anywhere; }
h3 b { text-transform: uppercase; }
table { border-collapse: collapse; margin: .5rem 0; display: block; overflow-x: auto; }
caption { text-align: left; font-weight: bold; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0;
  border-top: 1px solid var(--line); font-weight: normal; }
thead th { font-style: italic; border: 0; }
</style>
</head>
<body>
"""
_FRONT = """<main>
<h1>Paceline</h1>
<p>A posted workout is kept, and every consumer takes its own copy and does its work in its own
time. This is where what they made of it is read.</p>
<ul>
<li><a href="/docs">What can be asked, to read</a>, and
  <a href="/openapi.json">as an OpenAPI document</a></li>
<li><a href="/v1/consumers">What every consumer is doing</a></li>
<li><a href="/readyz">Whether this process can do its work</a></li>
</ul>
</main>
</body>
</html>
"""
_DOCS = """
{%- macro kind(schema) -%}
{%- if "$ref" in schema %}{% set name = schema["$ref"].split("/")[-1] -%}
<a href="#{{ name }}">{{ name }}</a>
{%- elif schema.type == "array" %}list of {{ kind(schema["items"]) }}
{%- elif schema.enum %}one of {{ schema.enum | join(", ") }}
{%- elif schema.type is string or not schema.type %}{{ schema.type or "any JSON" }}
{%- else %}{{ schema.type | join(" or ") }}{% endif -%}
{%- if schema.format %}, {{ schema.format }}{% endif -%}
{%- if "minimum" in schema %}, from {{ schema.minimum }}{% endif -%}
{%- if "maximum" in schema %} to {{ schema.maximum }}{% endif -%}
{%- if "maxLength" in schema %}, up to {{ schema.maxLength }} characters{% endif -%}
{%- if "maxItems" in schema %}, up to {{ schema.maxItems }}{% endif -%}
{%- if schema.pattern %}, <code>{{ schema.pattern }}</code>{% endif -%}
{%- if "default" in schema %}; else {{ schema.default }}{% endif -%}
{%- endmacro -%}
<header>
<h1>{{ spec.info.title }} {{ spec.info.version }}</h1>
<p>{{ spec.info.description }} <a href="/openapi.json">The OpenAPI document</a>.</p>
</header>
<nav aria-label="Contents"><ul>
{% for tag in tags %}<li><a href="#tag-{{ tag }}">{{ tag }}</a></li>
{% endfor %}<li><a href="#shapes">Shapes</a></li>
</ul></nav>
<main>
{% for tag, operations in tags.items() %}
<section aria-labelledby="tag-{{ tag }}">
<h2 id="tag-{{ tag }}">{{ tag }}</h2>
{% for method, path, operation in operations %}
<h3 id="{{ operation.operationId }}"><b>{{ method }}</b> {{ path }}</h3>
<p>{{ operation.summary }}{% if operation.description %}<br>{{ operation.description }}{% endif %}
{% if operation.requestBody %}<br>Body:
{{ kind(operation.requestBody.content["application/json"].schema) }}{% endif %}</p>
{% if operation.parameters %}<table>
<caption>Parameters</caption>
<thead><tr><th scope="col">Name<th scope="col">In<th scope="col">Type<th scope="col">Meaning</thead>
<tbody>{% for one in operation.parameters %}
<tr><th scope="row"><code>{{ one.name }}</code><td>{{ one.in }}<td>{{ kind(one.schema) }}
<td>{{ one.description or "" }}{% endfor %}</tbody>
</table>{% endif %}
<table>
<caption>Answers</caption>
<thead><tr><th scope="col">Status<th scope="col">Meaning<th scope="col">Body</thead>
<tbody>{% for status, response in operation.responses.items() %}
<tr><th scope="row">{{ status }}<td>{{ response.description }}
<td>{% for content in response.content.values() %}{{ kind(content.schema) }}{% endfor -%}
{% endfor %}</tbody>
</table>
{% endfor %}</section>
{% endfor %}
<section aria-labelledby="shapes">
<h2 id="shapes">Shapes</h2>
{% for name, shape in spec.components.schemas.items() %}
<table id="{{ name }}">
<caption>{{ name }}</caption>
<thead><tr><th scope="col">Field<th scope="col">Type<th scope="col">Meaning</thead>
<tbody>{% for field, schema in shape.properties.items() %}
<tr><th scope="row"><code>{{ field }}</code>
{%- if field in shape.required %} (required){% endif %}<td>{{ kind(schema) }}
<td>{{ schema.description or "" }}{% endfor %}</tbody>
</table>
{% endfor %}</section>
</main>
</body>
</html>
"""


def front_page() -> Response:
    """Return the page that says what this is."""
    return _html(render_template_string(_HEAD + _FRONT, title="Paceline"))


def docs_page(spec: dict[str, Any]) -> Response:
    """Return the OpenAPI document as a page."""
    tags: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            tags.setdefault(operation["tags"][0], []).append((method, path, operation))
    title = "Paceline: what can be asked"
    return _html(render_template_string(_HEAD + _DOCS, title=title, spec=spec, tags=tags))


def _html(text: str) -> Response:
    response = Response(text, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return response
