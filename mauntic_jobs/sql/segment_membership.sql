-- Whether one contact belongs to a segment.

-- is_member -- Tell it; {members} is the condition on a contact.
SELECT EXISTS (
    SELECT FROM crm.contacts AS contact
    WHERE contact.id = %(contact)s AND contact.organization_id = %(organization)s AND ({members})
) AS is_member
