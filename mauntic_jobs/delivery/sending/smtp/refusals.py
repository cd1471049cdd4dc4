"""Classes of permanent SMTP refusals, by whom they blame: the mailbox, the sender's account, a policy, or no one known.

Only a fault of the mailbox puts an address on the suppressions: a blocklisted server would otherwise put a whole list
there. Patterns are tried in order, on the text without addresses and links; what matches none is of no known class.
Sources: RFC 3463 for the enhanced codes; the classes of Sisimai and KumoMTA for the words.
"""

import re

from mauntic_jobs.delivery.sending.outcome import Blame

# X.Y.Z at the beginning, or in parentheses as qmail writes it.
_ENHANCED = re.compile(r"^5\.\d{1,3}\.\d{1,3}\b|(?<=#)5\.\d{1,3}\.\d{1,3}\b")
# What others have written, and no words of the server: addresses, links, quoted names.
_QUOTED = re.compile(r"<[^<>]*>|\S+@\S+|https?://\S+|\"[^\"]*\"")

_NO_MAILBOX = frozenset(("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"))
# These say no more than the code: the words decide.
_VAGUE = frozenset(("5.0.0", "5.0.1", "5.1.0", "5.2.0", "5.4.1", "5.5.0", "5.5.1", "5.5.4"))
_BY_CODE = {"5.1.7": Blame.SENDER, "5.1.8": Blame.SENDER, "5.4.5": Blame.SENDER, "5.7.60": Blame.SENDER}

_SENDER = re.compile(
    r"relay(?:ing)?\b(?: access)?(?: is| was)? ?(?:denied|not (?:permitted|allowed)|prohibited|refused)|unable to relay"
    r"|(?:not|don't|do not|won't|will not)(?: permitted to)? relay|rcpthosts|not a relay|relaying"
    r"|authenticat(?:ion|e) (?:is )?(?:required|first)|must (?:first )?(?:authenticate|log ?in|issue a starttls)"
    r"|(?:need|have) to authenticate|not logged in|log in first"
    r"|sender (?:address )?(?:is |was )?(?:rejected|denied|refused|blocked|invalid|not|verif|domain|unknown|must)"
    r"|sender's |invalid sender|bad sender|verification failed for|callout|(?:sender|return path) verif"
    r"|not owned by user|send ?as ?denied|not (?:allowed|authorized|authorised|permitted) to send|from address"
    r"|sender signature|not (?:been )?(?:verified|confirmed)|domain of sender|mail from domain|envelope (?:sender|from)"
    r"|(?:daily|hourly|monthly|sending|outgoing|message)[^.]{0,40}(?:limit|quota|rate)[^.]{0,40}exceeded"
    r"|exceeded[^.]{0,60}(?:limit|quota|emails|messages|defers|recipients)|(?:limit|quota) (?:is |has been )?exceeded"
    r"|maximum (?:credits|number of (?:messages|recipients))|sending[^.]{0,20} (?:suspended|paused)",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"(?:mailbox|inbox|recipient|user|account)[^.]{0,60}\b(?:full|quota|storage)\b|over ?quota"
    r"|insufficient[^.]{0,20}storage",
    re.IGNORECASE,
)
_POLICY = re.compile(
    r"spam|spf\b|dkim|dmarc|block ?list|black ?list|deny ?list|blocked|dnsbl|\brbl|listed (?:at|in|by|on)"
    r"|barracuda|sorbs|proofpoint|mimecast|reputation|polic(?:y|ies)|prohibited|unauthenticated|suspicious|virus"
    r"|malware|banned|access denied|not (?:allowed|authorized|authorised|permitted)|forbidden|content|\bptr\b"
    r"|reverse|rdns|helo|ehlo|client host|\bip\b|connection|too many|rate limit|throttl|gr[ea]y ?list|temporar|later"
    r"|verif|phish|bulk|unsolicited|abuse|security|tls|too large|too big|size|limit|dns|country",
    re.IGNORECASE,
)
_MAILBOX = re.compile(
    r"(?:user|recipient|mailbox|address|account|person|alias|customer)[^.]{0,60}?(?:unknown|not found|(?:does ?n[o']t"
    r"|do(?:es)? not|not?) exist|unavailable|invalid|inactive|not (?:known|valid|recognized|listed|here)|no longer)"
    r"|(?:unknown|invalid|nonexist[ae]nt|non-existent|undeliverable|inactive)[^.]{0,30}(?:user|recipient|mailbox"
    r"|address|account|local|alias)"
    r"|no (?:such|valid)[^.]{0,20}(?:user|recipient|mailbox|address|account|person|customer|domain)"
    r"|no (?:mailbox|account)|do(?:es)?(?:n't| not) have an? |(?:not|isn't) (?:a valid|our customer|a known)"
    r"|unrout[e]?able|no one at this address|not a (?:valid )?(?:local )?(?:mailbox|user|recipient)|user unknown"
    r"|address rejected|no longer (?:valid|active|in use|employed|available)|mailbox not|not in our database"
    r"|unknown in (?:virtual|local|relay)|could not be found|can'?t be found|wasn'?t found",
    re.IGNORECASE,
)


_MISUSED = re.compile(
    r"spam|block ?list|black ?list|dnsbl|\brbl|listed (?:at|in|by|on)|reputation|dmarc|access denied|too many"
    r"|rate limit|banned|client host",
    re.IGNORECASE,
)
_UNKNOWN_USER = re.compile(r"unknown|not found|exist", re.IGNORECASE)


def blame_of(text: str) -> Blame:
    """Return what a permanent refusal is about; `text` is the server's, without the code of three digits."""
    enhanced = _ENHANCED.search(text)
    code = enhanced[0] if enhanced else ""
    return _BY_CODE.get(code) or _by_words(code, _QUOTED.sub(" ", text))


def _by_words(code: str, words: str) -> Blame:
    if _FULL.search(words):
        return Blame.FULL
    if _SENDER.search(words):
        return Blame.SENDER
    if code in _NO_MAILBOX and (_UNKNOWN_USER.search(words) or not _MISUSED.search(words)):
        return Blame.MAILBOX
    if code.startswith("5.7.") or _POLICY.search(words):
        return Blame.POLICY
    if (not code or code in _VAGUE) and _MAILBOX.search(words):
        return Blame.MAILBOX
    return Blame.UNKNOWN
