/*
 * monitor_publish: the monitor's verdict in Redis, for the status page of
 * sluice-policyd, which counts its countdown by it too (lib/monitor_row.h).
 */
#ifndef SLUICE_MONITOR_PUBLISH_H
#define SLUICE_MONITOR_PUBLISH_H

#include "command.h"
#include "monitor_report.h"

/* Of a view that monitor_judge() has judged. Redis is not needed for anything that the
 * monitor itself says: when it cannot be reached that is one line on standard error,
 * and *failing is set, so that the next call says nothing until it works again. */
void monitor_publish(struct command_context *context, const struct monitor_view *view,
                     bool *failing);

#endif
