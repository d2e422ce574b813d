-- miltertest script of test_auth_hostile.py: the milter protocol with a verifying
-- sluice-milter. -D socket=unix:/path -D host=AUTHSERV-ID

local function check(what, value)
	if not value then
		mt.echo("failed: " .. what)
		error(what)
	end
end

local function send_headers(conn, results)
	check("From", mt.header(conn, "From", "someone@senders.test") == nil)
	for _, value in ipairs(results) do
		check("field", mt.header(conn, "Authentication-Results", value) == nil)
	end
	check("end of headers", mt.eoh(conn) == nil)
	check("body", mt.bodystring(conn, "Text.\r\n") == nil)
	check("end of message", mt.eom(conn) == nil)
	check("accepted", mt.getreply(conn) == SMFIR_CONTINUE)
end

local function envelope(conn, sender)
	check("MAIL", mt.mailfrom(conn, sender) == nil)
	check("RCPT", mt.rcptto(conn, "somebody@elsewhere.test") == nil)
end

local conn = mt.connect(socket)
check("connection to " .. socket, conn)

-- What it needs: headers added and changed, recipients, quarantine.
check("negotiation", mt.negotiate(conn, nil, nil, nil) == nil)
check("headers added", mt.test_action(conn, SMFIF_ADDHDRS))
check("headers changed", mt.test_action(conn, SMFIF_CHGHDRS))
check("quarantine", mt.test_action(conn, SMFIF_QUARANTINE))
-- On a unix socket no answers before the end; values with their blanks.
for _, option in ipairs({ SMFIP_NR_CONN, SMFIP_NR_MAIL, SMFIP_NR_HDR, SMFIP_NR_EOH,
	SMFIP_NR_BODY, SMFIP_HDR_LEADSPC }) do
	check("option " .. option, mt.test_option(conn, option))
end

check("connect", mt.conninfo(conn, "unknown", "192.0.2.25") == nil)
check("HELO", mt.helo(conn, "mail.senders.test") == nil)

-- Forged fields go, that of another host stays; ours comes on top.
envelope(conn, "someone@senders.test")
send_headers(conn, { host .. "; spf=fail", "other.example; spf=fail",
	'"' .. host .. '" 1; dkim=pass' })
check("our field", mt.eom_check(conn, MT_HDRINSERT, "Authentication-Results"))
check("forged fields", mt.eom_check(conn, MT_HDRDELETE, "Authentication-Results"))
local value = mt.getheader(conn, "Authentication-Results", 0)
check("value " .. tostring(value), value and string.find(value, host, 1, true)
	and string.find(value, "spf=pass", 1, true))

-- A second message on the connection knows nothing of the first one.
envelope(conn, "someone@unknown.test")
send_headers(conn, {})
check("our field again", mt.eom_check(conn, MT_HDRINSERT, "Authentication-Results"))
check("nothing forged", not mt.eom_check(conn, MT_HDRDELETE, "Authentication-Results"))
value = mt.getheader(conn, "Authentication-Results", 0)
check("second value " .. tostring(value), value and string.find(value, "spf=none", 1, true))

-- An aborted one neither.
envelope(conn, "someone@senders.test")
check("abort", mt.abort(conn) == nil)
envelope(conn, "")
send_headers(conn, {})
value = mt.getheader(conn, "Authentication-Results", 0)
check("third value " .. tostring(value),
	value and string.find(value, "smtp.helo=mail.senders.test", 1, true))

mt.disconnect(conn)
