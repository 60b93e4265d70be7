/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the kaiten authors */
/* Tells the service manager how the daemon is, by the protocol of sd_notify(3). Without a manager
 * (no NOTIFY_SOCKET) every call does nothing. */
#ifndef NOTIFY_H
#define NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and takes them out of the environment, so
 * that no child speaks for us. False: the address is not one that can be used. Main thread, once,
 * before other threads. */
bool notify_open(void);
void notify_close(void);

/* All below: any thread, one datagram, never blocks; a manager that does not listen is no error. */
void notify_ready(const char *status);     /* READY=1; status may be NULL */
void notify_stopping(const char *status);  /* STOPPING=1 */
void notify_alive(void);                   /* WATCHDOG=1 */

/* How often notify_alive() has to be called at most, in milliseconds: half of what the manager
 * waits. 0: no watchdog. */
int64_t notify_watchdog_ms(void);

#endif
