-- Whether one contact belongs to a segment.

-- is_member -- Tell it; {members} is the condition on a contact.
SELECT EXISTS (
    SELECT FROM crm.contacts AS contact
    WHERE contact.id = %(contact)s AND contact.organization_id = %(organization)s AND ({members})
) AS is_member

-- judged -- Tell it, and how each condition judges the contact; {members} is the condition on a contact, {parts} are the
-- columns that each condition adds. No row comes back for a contact that the organization does not have.
SELECT ({members}) AS is_member{parts}
FROM crm.contacts AS contact
WHERE contact.id = %(contact)s AND contact.organization_id = %(organization)s
