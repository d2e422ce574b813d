/*
 * monitor_html: the monitor's report as one HTML page (see monitor_report.h). It loads
 * nothing and runs no script; a policy in it forbids both, for the day that a text from
 * a log would slip through. Light and dark follow the reader's choice. The chart is an
 * inline SVG that stretches to the page's width; its labels are outside, so that they
 * do not.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "monitor_report.h"

#define SECOND_US INT64_C(1000000)
#define SHOWN     500
#define HOURS_MIN 72
#define HOURS_MAX (14 * 24)
#define HEIGHT    100
#define TICKS     6

/* clang-format off */
static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
    "style-src 'unsafe-inline'\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<meta name=\"color-scheme\" content=\"light dark\">\n"
    "<title>sluice monitor</title>\n<style>\n"
    ":root{--back:#fff;--text:#1c2430;--soft:#5a6675;--line:#dde3ea;--bar:#2f6fb3;"
    "--ok:#17663a;--warn:#8a5a00;--bad:#b3261e}\n"
    "@media(prefers-color-scheme:dark){:root{--back:#14181d;--text:#e3e8ee;--soft:#98a4b1;"
    "--line:#2c343d;--bar:#6aa9e6;--ok:#6fcf97;--warn:#e7b75b;--bad:#ff8a80}}\n"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--back);"
    "max-width:72em;margin:1.5em auto;padding:0 1em}"
    "h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.8em 0 .5em}"
    ".OK{color:var(--ok)}.WARNING{color:var(--warn)}.CRITICAL,.UNKNOWN{color:var(--bad)}"
    "p{margin:.4em 0;overflow-wrap:anywhere}.soft,small{color:var(--soft)}"
    ".facts{display:flex;flex-wrap:wrap;gap:.4em 2em;margin:1em 0}"
    ".facts div{min-width:6em}.facts b{display:block;font-size:1.5em;font-weight:600}"
    ".way{height:.6em;background:var(--line);border-radius:.3em;overflow:hidden}"
    ".way div{height:100%;background:var(--bar)}"
    ".chart{display:grid;grid-template-columns:auto 1fr;gap:0 .5em;margin-top:.6em}"
    ".y{display:flex;flex-direction:column;justify-content:space-between;text-align:right;"
    "font-size:.8em;line-height:1;color:var(--soft)}"
    ".chart svg{width:100%;height:11em;display:block;border-bottom:1px solid var(--soft);"
    "border-top:1px dotted var(--line)}.chart rect{fill:var(--bar)}"
    ".x{grid-column:2;display:flex;justify-content:space-between;font-size:.8em;"
    "color:var(--soft);margin-top:.2em}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.93em}"
    "th{text-align:left;color:var(--soft);font-weight:600}"
    "th,td{padding:.35em .7em .35em 0;border-bottom:1px solid var(--line);"
    "vertical-align:top}td{overflow-wrap:anywhere;min-width:9em}"
    ".n{text-align:right;white-space:nowrap;min-width:3em}.t{white-space:nowrap}"
    "small{display:block}"
    "@media(max-width:40em){.x span:nth-child(even){display:none}}\n"
    "</style></head><body>\n";
/* clang-format on */

static void put(FILE *out, const char *text)
{
    char safe[LOG_FLOW_TEXT_MAX + 1];
    (void)snprintf(safe, sizeof(safe), "%s", text); /* none is longer */
    out_harmless(safe);
    for (const char *c = safe; *c; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            putc(*c, out);
        }
    }
}

/* Before and after are ours. */
static void wrap(FILE *out, const char *before, const char *text, const char *after)
{
    fputs(before, out);
    put(out, text);
    fputs(after, out);
}

static void put_time(FILE *out, const char *before, int64_t us, const char *after)
{
    char text[TIME_TEXT_MAX];
    wrap(out, before, us == LOG_NO_TIME ? "-" : time_text(us / SECOND_US, text), after);
}

static void fact(FILE *out, const char *name, uint64_t value, const char *kind)
{
    fprintf(out, "<div><b class=\"%s\">%" PRIu64 "</b>%s</div>\n", kind, value, name);
}

static void put_head(const struct monitor_view *v, FILE *out)
{
    const struct monitor_totals *t = &v->monitor->totals;
    fputs(head, out);
    fprintf(out, "<h1><span class=\"%s\">%s</span> sluice monitor</h1>\n",
            monitor_state_name(v->state), monitor_state_name(v->state));
    wrap(out, "<p>", v->text, "</p>\n");
    put_time(out, "<p class=\"soft\">", v->now * SECOND_US, "");
    put_time(out, "; log from ", t->begins, "");
    put_time(out, " to ", t->ends, "</p>\n<div class=\"facts\">\n");
    fact(out, "floaters", v->floaters, "");
    fact(out, "delivered", t->delivered, "");
    fact(out, "waiting", v->waiting.waiting, v->waiting.waiting ? "WARNING" : "");
    fact(out, "refused", v->waiting.refused, v->waiting.refused ? "CRITICAL" : "");
    fact(out, "lost", t->lost, t->lost ? "CRITICAL" : "");
    fputs("</div>\n", out);
}

static void put_way(const struct monitor_view *v, FILE *out)
{
    char quiet[DURATION_TEXT_MAX], wanted[DURATION_TEXT_MAX];
    int64_t done = v->quiet < 0 ? 0 : v->quiet > v->quiet_for ? v->quiet_for : v->quiet;
    fprintf(out, "<h2>Quiet for %s of %s</h2>\n",
            v->quiet < 0 ? "-" : duration_text(v->quiet, quiet),
            duration_text(v->quiet_for, wanted));
    fprintf(out, "<div class=\"way\"><div style=\"width:%.1f%%\"></div></div>\n",
            v->quiet_for > 0 ? 100.0 * (double)done / (double)v->quiet_for : 100.0);
}

/* ---- the chart -------------------------------------------------------------- */

static uint64_t of_hour(const struct monitor_view *v, const struct monitor_hour *hour)
{
    return hour->count[MONITOR_ALL] -
           (v->without_failures ? hour->count[MONITOR_FAILED] : 0);
}

static int64_t first_hour(const struct monitor_view *v, int64_t last)
{
    int64_t first = last - HOURS_MIN + 1;
    for (size_t i = 0; i < v->monitor->hour_count; i++)
        if (of_hour(v, &v->monitor->hours[i]) > 0) {
            if (v->monitor->hours[i].hour < first)
                first = v->monitor->hours[i].hour;
            break;
        }
    return first < last - HOURS_MAX + 1 ? last - HOURS_MAX + 1 : first;
}

static void put_bars(const struct monitor_view *v, FILE *out, int64_t first, int64_t last,
                     uint64_t most)
{
    for (size_t i = 0; i < v->monitor->hour_count; i++) {
        const struct monitor_hour *hour = &v->monitor->hours[i];
        uint64_t count = of_hour(v, hour);
        char when[TIME_TEXT_MAX];
        if (hour->hour < first || hour->hour > last || count == 0)
            continue;
        double height = (double)count * HEIGHT / (double)most;
        if (height < 2)
            height = 2; /* one among thousands is seen too */
        fprintf(out,
                "<rect x=\"%" PRId64 ".08\" y=\"%.2f\" width=\".84\" height=\"%.2f\">"
                "<title>%s: %" PRIu64 "</title></rect>\n",
                hour->hour - first, HEIGHT - height, height,
                time_text(hour->hour * 3600, when), count);
    }
}

static void put_ticks(FILE *out, int64_t first, int64_t last)
{
    fputs("<div class=\"x\">", out);
    for (int i = 0; i <= TICKS; i++) {
        time_t t = (time_t)((first + (last + 1 - first) * i / TICKS) * 3600);
        struct tm tm = { 0 };
        char text[32] = "";
        if (localtime_r(&t, &tm) && strftime(text, sizeof(text), "%d %b %H:%M", &tm) > 0)
            fprintf(out, "<span>%s</span>", text);
    }
    fputs("</div></div>\n", out);
}

static void put_chart(const struct monitor_view *v, FILE *out)
{
    int64_t last = v->now / 3600, first = first_hour(v, last);
    uint64_t most = 1;
    for (size_t i = 0; i < v->monitor->hour_count; i++)
        if (v->monitor->hours[i].hour >= first &&
            of_hour(v, &v->monitor->hours[i]) > most)
            most = of_hour(v, &v->monitor->hours[i]);
    fprintf(
        out,
        "<h2>Floaters per hour</h2>\n<div class=\"chart\"><div class=\"y\"><span>%" PRIu64
        "</span><span>0</span></div>\n<svg role=\"img\" aria-label=\"floaters per hour\" "
        "viewBox=\"0 0 %" PRId64 " %d\" preserveAspectRatio=\"none\">\n",
        most, last - first + 1, HEIGHT);
    put_bars(v, out, first, last, most);
    fputs("</svg>\n", out);
    put_ticks(out, first, last);
}

/* ---- tables ----------------------------------------------------------------- */

static void put_more(FILE *out, size_t count, const char *what)
{
    fputs("</table></div>\n", out);
    if (count > SHOWN)
        fprintf(out, "<p class=\"soft\">and %zu more %s: sluice monitor --json</p>\n",
                count - SHOWN, what);
}

static void put_senders(const struct monitor_view *v, FILE *out)
{
    size_t count;
    const struct monitor_sender **rows = monitor_senders(v, &count);
    fputs("<h2>Who still sends to the old server</h2>\n", out);
    if (count == 0) {
        fputs("<p class=\"soft\">nobody</p>\n", out);
        free(rows);
        return;
    }
    fputs("<div class=\"wide\"><table><tr><th>sending host<th>login<th>last sender and "
          "mailbox<th class=\"n\">floaters<th>last one</tr>\n",
          out);
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        char client[600];
        monitor_client(rows[i], client, sizeof(client));
        wrap(out, "<tr><td>", client, "");
        if (rows[i]->helo[0])
            wrap(out, "<small>HELO ", rows[i]->helo, "</small>");
        wrap(out, "<td>", rows[i]->user[0] ? rows[i]->user : "-", "");
        wrap(out, "<td>", rows[i]->from[0] ? rows[i]->from : "<>", "");
        wrap(out, "<small>to ", rows[i]->mailbox, "</small>");
        fprintf(out, "<td class=\"n\">%" PRIu64, monitor_count(v, &rows[i]->tally));
        put_time(out, "<td class=\"t\">", monitor_last(v, &rows[i]->tally), "</tr>\n");
    }
    put_more(out, count, "senders");
    free(rows);
}

static void put_mailboxes(const struct monitor_view *v, FILE *out)
{
    size_t count;
    const struct monitor_mailbox **rows = monitor_mailboxes(v, &count);
    fputs("<h2>Mailboxes</h2>\n", out);
    if (count == 0) {
        fputs("<p class=\"soft\">none</p>\n", out);
        free(rows);
        return;
    }
    fputs("<div class=\"wide\"><table><tr><th>mailbox<th class=\"n\">floaters<th>last one"
          "<th>status<th class=\"n\">waiting</tr>\n",
          out);
    for (size_t i = 0; i < count && i < SHOWN; i++) {
        bool fine = rows[i]->status == LOG_STATUS_SENT;
        wrap(out, "<tr><td>", rows[i]->address, "");
        fprintf(out, "<td class=\"n\">%" PRIu64, monitor_count(v, &rows[i]->tally));
        put_time(out, "<td class=\"t\">", monitor_last(v, &rows[i]->tally), "");
        fprintf(out, "<td class=\"%s\">%s<td class=\"n\">%" PRIu64 "</tr>\n",
                fine ? "OK" : "CRITICAL", log_status_name(rows[i]->status),
                rows[i]->waiting);
    }
    put_more(out, count, "mailboxes");
    free(rows);
}

static void put_left_out(const struct monitor_view *v, FILE *out)
{
    const struct monitor_totals *t = &v->monitor->totals;
    fputs("<p class=\"soft\">", out);
    if (t->probes > 0)
        fprintf(out, "Not counted: %" PRIu64 " probes of sluice ping. ", t->probes);
    if (v->without_failures)
        fprintf(out, "Not counted: %" PRIu64 " that DMARC fails. ",
                t->tally.count[MONITOR_FAILED]);
    if (t->false_probes > 0)
        fprintf(out,
                "Counted: %" PRIu64
                " with the mark of a probe, to mailboxes that no ping "
                "section has. ",
                t->false_probes);
    fputs("</p>\n</body></html>\n", out);
}

bool monitor_html(const struct monitor_view *view, char **text, size_t *len)
{
    FILE *out = open_memstream(text, len);
    if (!out)
        return false;
    put_head(view, out);
    put_way(view, out);
    put_chart(view, out);
    put_senders(view, out);
    put_mailboxes(view, out);
    put_left_out(view, out);
    bool fine = !ferror(out);
    if (fclose(out) == 0 && fine)
        return true;
    free(*text);
    return false;
}
