/*
 * playbook_judge: see playbook_judge.h.
 */
#include "playbook_judge.h"

#include <string.h>

#include "playbook_merge.h"

const char *inventory_judge(unsigned found, unsigned asked, const char **way)
{
    bool mailbox = found & (IN_FILE | IN_LIST | IN_MAPS);
    *way = "";
    if (asked & IN_NEW && found & IN_NEW_LATER) {
        *way = "ask again later";
        return "the new side could not say whether it takes it";
    }
    if (asked & IN_NEW && !(found & IN_NEW) && (mailbox || found & IN_ALIAS)) {
        *way = found & IN_ALIAS ? "make the alias on the new side"
                                : "make it on the new side, or take it off the lists";
        return "the new side refuses it";
    }
    if (found & IN_FILE && asked & IN_LIST && !(found & IN_LIST)) {
        *way = "sluice import";
        return "in the file, and not listed";
    }
    if (found & IN_LIST && asked & IN_FILE && !(found & IN_FILE)) {
        *way = "add it to the file, or forget it in sluice";
        return "listed, and not in the file";
    }
    if (found & IN_FILE && asked & IN_MAPS && !(found & (IN_MAPS | IN_ALIAS))) {
        *way = "look for a misspelling; take it off the file if nobody has it";
        return "in the file, and the old server's maps do not have it";
    }
    if (found & IN_MAPS && asked & IN_FILE && !(found & IN_FILE)) {
        *way = "add it to the file, or remove the mailbox on the old side";
        return "a mailbox of the old server, and not in the file";
    }
    if (found & IN_LOG && !mailbox && !(found & IN_ALIAS)) {
        *way = "add it to the file when it is in use";
        return "mail was delivered to it, and no list has it";
    }
    return NULL;
}

static uint64_t minus(uint64_t now, uint64_t base)
{
    return now > base ? now - base : 0;
}

struct sender sender_since(struct sender now, struct sender base)
{
    if (now.messages < base.messages)
        return now; /* the row made room for others, and began anew */
    return (struct sender){
        minus(now.messages, base.messages),     minus(now.would_fail, base.would_fail),
        minus(now.spf_pass, base.spf_pass),     minus(now.dkim_pass, base.dkim_pass),
        minus(now.dmarc_pass, base.dmarc_pass),
    };
}

static bool too_few(uint64_t passed, uint64_t messages, int percent, uint64_t *failed)
{
    *failed = minus(messages, passed);
    /* Not passed * 100 < messages * percent, which overflows. */
    return (double)passed * 100 < (double)messages * percent;
}

enum sender_fault sender_judge(struct sender sender, bool bounces, int percent,
                               uint64_t *failed)
{
    if (too_few(sender.dkim_pass, sender.messages, percent, failed))
        return SENDER_UNSIGNED;
    if (!bounces && too_few(sender.spf_pass, sender.messages, percent, failed))
        return SENDER_SPF;
    if (too_few(sender.dmarc_pass, sender.messages, percent, failed))
        return SENDER_UNALIGNED;
    return SENDER_GOOD;
}

const char *sender_fault_text(enum sender_fault fault)
{
    switch (fault) {
    case SENDER_UNSIGNED:
        return "have no good DKIM signature: switch signing on there";
    case SENDER_SPF:
        return "do not pass SPF: add the host to the record";
    case SENDER_UNALIGNED:
        return "do not pass DMARC: neither signature nor envelope is of the domain";
    case SENDER_GOOD:
        break;
    }
    return "pass";
}

const char *password_judge(const char *password)
{
    size_t len = strlen(password);
    if (!merge_is_utf8(password, len))
        return "the password is not UTF-8: save the file as UTF-8";
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)password[i] < 0x20 || password[i] == 0x7f)
            return "the password has a control character";
    if (len > 0 && (password[0] == ' ' || password[len - 1] == ' '))
        return "the password begins or ends with a space";
    /* What spreadsheets, shells and other systems' imports eat or change. */
    if (strpbrk(password, "\"'`\\,;<>|&$"))
        return "the password has a special character (one of \" ' ` \\ , ; < > | & $): "
               "choose another for the move";
    return NULL;
}
