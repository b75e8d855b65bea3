/* notify.h - the service manager's side of a server: sockets that it has opened, and what it is told.
 *
 * The protocols are systemd's (sd_listen_fds(3), sd_notify(3)), spoken here without its library: three environment
 * variables and one datagram. Without these variables every function does nothing. */
#ifndef PIL_CMD_NOTIFY_H
#define PIL_CMD_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes the sockets that the service manager has passed to this very process ($LISTEN_PID, $LISTEN_FDS): sets fds[0..n)
 * and gives n. They are marked close-on-exec; the variables are removed, so that a second call gives 0. */
size_t pil_notify_sockets(int *fds, size_t fds_max);

/* Whether somebody wants to be told ($NOTIFY_SOCKET). */
bool pil_notify_is_wanted(void);
/* Sends "READY=1", "WATCHDOG=1", … one or several lines. What cannot be sent is lost: the server goes on. */
__attribute__((format(printf, 1, 2))) void pil_notify(const char *fmt, ...);

/* How often "WATCHDOG=1" is expected at least ($WATCHDOG_USEC, $WATCHDOG_PID), in ms; 0: never. is_successor: we have
 * taken over from the process that the variable names. */
uint64_t pil_notify_watchdog_ms(bool is_successor);

#endif
