/* applib.h - what the sample applications share: limits, names of events, a small config. */
#ifndef MOS_SAMPLES_APPLIB_H
#define MOS_SAMPLES_APPLIB_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MAX_LINE_LEN 1000               /* longest line of a configuration, with its end */
#define MAX_FLOW_NUM 1000000            /* most connections a sample keeps */
#define MAX_EVENTS   (MAX_FLOW_NUM * 3) /* most events a sample waits for at a time */
#ifndef MAX_CPUS
#define MAX_CPUS     16                 /* most cores */
#endif

#ifndef MAX
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#endif
#ifndef MIN
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#endif
#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif
#ifndef ERROR
#define ERROR (-1)
#endif

/* A struct timeval as a number of its unit. */
#define TIMEVAL_TO_MSEC(t) ((t).tv_sec * 1000 + (t).tv_usec / 1000)
#define TIMEVAL_TO_USEC(t) ((t).tv_sec * 1000000 + (t).tv_usec)

/* Is a later than b? */
#define TS_GT(a, b) ((int64_t)((a) - (b)) > 0)

#define CONF_VALUE_LEN 100

/* A line `name = value` that LoadConfig() is to look for. */
struct conf_var {
	char *name;
	char value[CONF_VALUE_LEN + 1];
};

/* The name of an epoll bit ("MOS_EPOLLIN"), or "Unknown". */
char *strevent(uint64_t ev);

/* The name of a built-in event ("MOS_ON_PKT_IN"), or "Unknown". */
char *strcbevent(uint64_t ev);

/*
 * Reads lines `name = value` and stores the values of the `size` names in vlist; others are
 * skipped, # begins a comment. 0, or -1 with a message: no such file, a line too long, a
 * value longer than CONF_VALUE_LEN.
 */
int LoadConfig(char *file_name, struct conf_var *vlist, int size);

#ifdef __cplusplus
}
#endif

#endif
