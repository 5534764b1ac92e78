/* rss.h - which queue a network card steers a flow to. */
#ifndef MOS_UTIL_RSS_H
#define MOS_UTIL_RSS_H

#include <stdint.h>
#include <netinet/in.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The Toeplitz hash of a tuple, with the key that the stack programs into cards. */
uint32_t GetRSSHash(in_addr_t sip, in_addr_t dip, in_port_t sp, in_port_t dp);

/* The core a tuple belongs to; from the library. See mtcp_util.h. */
int GetRSSCPUCore(in_addr_t sip, in_addr_t dip, in_port_t sp, in_port_t dp, int num_queues);

#ifdef __cplusplus
}
#endif

#endif
