"""The template language as the platform's content editor offers it."""

import json
from email import message_from_bytes, policy
from typing import Any
from uuid import UUID, uuid4

import pytest

from mauntic_jobs.delivery.render.templates.nodes import TemplateError
from mauntic_jobs.delivery.render.templates.parser import compile_template
from tests.delivery.sink import Sink
from tests.delivery.world import World
from tests.world.corpus import Case, each_case


def segment(world: World, name: str, kind: str = "dynamic", criteria: str | None = None) -> UUID:
    made = uuid4()
    world.write(
        "INSERT INTO crm.segments (id, organization_id, name, type, filter_criteria)"
        " VALUES (%(id)s, %(organization)s, %(name)s, %(kind)s, %(criteria)s::jsonb)",
        id=made,
        name=name,
        kind=kind,
        criteria=criteria,
    )
    return made


def criteria(field: str, value: str) -> str:
    condition = {"field": field, "operator": "eq", "value": value}
    return json.dumps({"operator": "and", "conditions": [condition]})


def ann(world: World) -> str:
    """Add the contact that the table is about, with its company and segments."""
    fields = {"plan": "pro", "loyalty_points": 7, "nickname": ""}
    contact = world.contact(
        email="ann@example.com", first_name="Ann", last_name="Lee", custom_fields=json.dumps(fields)
    )
    company = uuid4()
    world.write(
        "INSERT INTO crm.companies (id, organization_id, name) VALUES (%(id)s, %(organization)s, 'Acme & Sons')",
        id=company,
    )
    world.write(
        "INSERT INTO crm.contact_companies (contact_id, company_id) VALUES (%(contact)s, %(company)s)",
        contact=contact,
        company=company,
    )
    vip = segment(world, "VIP customers", "static")
    world.write(
        "INSERT INTO crm.segment_contacts (segment_id, contact_id) VALUES (%(vip)s, %(contact)s)",
        vip=vip,
        contact=contact,
    )
    segment(world, "Churned", criteria=criteria("plan", "none"))
    return str(contact)


def received(sink: Sink) -> str:
    (message,) = sink.messages()
    parsed: Any = message_from_bytes(message.content, policy=policy.default)
    return str(parsed.get_body(("html",)).get_content()).rstrip("\r\n")


@each_case("template_language")
def test_a_template_is_rendered_as_its_author_meant(case: Case, world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    message = world.message(
        contactId=ann(world), html=case.input["template"] + "\n", templateData=case.input.get("data", ...), text="-"
    )
    world.add(message)
    world.deliver()
    (row,) = world.ledger()
    assert row["state"] == "sent", row["reason"]
    assert received(sink) == case.answer["text"]
    assert row["unknown_fields"] == (case.answer.get("unknown") or None)


@pytest.mark.parametrize(("plan", "text"), [("pro", "member"), ("free", "other")])
def test_a_variant_of_a_dynamic_segment_goes_by_its_criteria(world: World, sink: Sink, plan: str, text: str) -> None:
    world.provider(sink.host, sink.port)
    segment(world, "Pro", criteria=criteria("plan", "pro"))
    contact = world.contact(custom_fields=json.dumps({"plan": plan}))
    source = '{{#variant segment="Pro"}}member{{else}}other{{/variant}}'
    world.add(world.message(contactId=str(contact), html=f"<p>{source}</p>"))
    world.deliver()
    assert received(sink) == f"<p>{text}</p>"


def test_another_organizations_segment_and_company_are_not_used(world: World, sink: Sink) -> None:
    own, world.organization = world.organization, uuid4()
    vip, company = segment(world, "VIP", "static"), uuid4()
    world.write(
        "INSERT INTO crm.companies (id, organization_id, name) VALUES (%(id)s, %(organization)s, 'X')", id=company
    )
    world.organization = own
    contact = world.contact()
    world.write("INSERT INTO crm.segment_contacts (segment_id, contact_id) VALUES (%(s)s, %(c)s)", s=vip, c=contact)
    world.write(
        "INSERT INTO crm.contact_companies (contact_id, company_id) VALUES (%(c)s, %(o)s)", c=contact, o=company
    )
    world.provider(sink.host, sink.port)
    source = '<p>[{{#variant segment="VIP"}}vip{{/variant}}{{contact.company}}]</p>'
    world.add(world.message(contactId=str(contact), html=source))
    world.deliver()
    assert received(sink) == "<p>[]</p>"


@pytest.mark.parametrize(
    "stored", ['{"operator": "and", "conditions": [{"field": "a", "operator": "near", "value": 1}]}', "[1]"]
)
def test_a_segment_that_cannot_be_used_fails_the_message_by_name(world: World, sink: Sink, stored: str) -> None:
    world.provider(sink.host, sink.port)
    segment(world, "Odd", criteria=stored)
    world.add(world.message(contactId=str(world.contact()), html='<p>{{#variant segment="Odd"}}x{{/variant}}</p>'))
    world.deliver()
    (row,) = world.ledger()
    assert (row["state"], sink.messages()) == ("failed", [])
    assert "'Odd'" in row["reason"]


def test_without_a_contact_a_variant_is_for_others(world: World, sink: Sink) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(html='<p>{{#variant segment="VIP"}}vip{{else}}you{{/variant}}</p>'))
    world.deliver()
    assert received(sink) == "<p>you</p>"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{#variant}}{{/variant}}", "names no segment"),
        ("{{#variant VIP}}{{/variant}}", "names no segment"),
        ('{{#variant segment=""}}{{/variant}}', "names no segment"),
        ('{{#variant segment="a"}}', "is never closed"),
        ('{{#variant segment="a"}}{{/if}}', "{{/variant}} is expected"),
        ("{{a|b}}", "is not a path"),
        ('{{a|"b}}', "is not a path"),
        ('{{a|"b"|"c"}}', "is not a path"),
        ('{{|"b"}}', "is not a path"),
        ('{{#if a|"b"}}{{/if}}', "is not a path"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(source: str, problem: str) -> None:
    with pytest.raises(TemplateError, match="line 1, column") as caught:
        compile_template(source)
    assert problem in str(caught.value)


@pytest.mark.parametrize("body", ["Tom &amp; Jerry&nbsp;say &euro;5", "5&#8364; off"])
def test_a_body_that_is_html_by_its_entities_goes_out_as_html(world: World, sink: Sink, body: str) -> None:
    world.provider(sink.host, sink.port)
    world.add(world.message(html=..., body=body))
    world.deliver()
    assert received(sink) == body
