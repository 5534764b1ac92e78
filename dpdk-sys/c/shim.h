/*
 * What of DPDK exists only in its headers (static inline functions, macros), as functions and constants that can be
 * linked and bound. Calls on the packet path take a whole burst each.
 */
#ifndef MOS_DPDK_SHIM_H
#define MOS_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <rte_mempool.h>
#include <rte_version.h>

/* Most packets of one call of shim_rx(). */
#define SHIM_BURST 64

/* shim_packet.flags */
#define SHIM_IP_GOOD 1u  /* the device verified the IPv4 header checksum, and it is right */
#define SHIM_L4_GOOD 2u  /* the device verified the TCP or UDP checksum, and it is right */
#define SHIM_STAMPED 4u  /* stamp holds the receive time */

/* Macros that hold casts or shifts, as values. */
static const uint64_t SHIM_RX_OFFLOAD_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t SHIM_RX_OFFLOAD_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t SHIM_RX_OFFLOAD_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t SHIM_RX_OFFLOAD_TIMESTAMP = RTE_ETH_RX_OFFLOAD_TIMESTAMP;
static const uint64_t SHIM_TX_OFFLOAD_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t SHIM_RSS_IP = RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t SHIM_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t SHIM_RSS_IPV4_UDP = RTE_ETH_RSS_NONFRAG_IPV4_UDP;
static const uint32_t SHIM_MQ_RX_NONE = RTE_ETH_MQ_RX_NONE;
static const uint32_t SHIM_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS;
static const uint64_t SHIM_NO_OWNER = RTE_ETH_DEV_NO_OWNER;
static const uint16_t SHIM_MAX_PORTS = RTE_MAX_ETHPORTS;
static const uint16_t SHIM_HEADROOM = RTE_PKTMBUF_HEADROOM;
static const uint16_t SHIM_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE;
/* Bytes of Ethernet's header and check sequence, which the MTU leaves out. */
static const uint32_t SHIM_FRAME_OVERHEAD = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;

/* A received packet. */
struct shim_packet {
	struct rte_mbuf *mbuf;
	uint8_t *data;      /* its first segment */
	uint64_t stamp;     /* receive time in the device's unit, if SHIM_STAMPED */
	uint32_t len;       /* bytes in the first segment */
	uint32_t total;     /* bytes in all segments */
	uint32_t flags;
};

/* Where the receive time lies in a packet: from rte_mbuf_dynfield_lookup() and rte_mbuf_dynflag_lookup(). */
struct shim_stamp {
	int offset;         /* below 0: nowhere */
	uint64_t flag;
};

/* A pool, and this thread's own cache of it (NULL: the one of its lcore, if it has one). */
struct shim_pool {
	struct rte_mempool *pool;
	struct rte_mempool_cache *cache;
};

/* rte_eal_init(), with the state of the caller's getopt() kept. */
int shim_eal_init(int argc, char **argv);
/* EAL and its libraries write to standard error; otherwise to standard output, which is the application's. */
void shim_log_to_stderr(void);
/* rte_errno of the calling thread. */
int shim_errno(void);
/* Whether the calling thread is one of EAL's lcores, or was made one by rte_thread_register(). */
int shim_is_lcore(void);

/* Whether a port has link, as it was last known. */
int shim_link_up(uint16_t port);

/* A cache for a thread that is no lcore; NULL when there is no memory. */
struct rte_mempool_cache *shim_cache_create(void);
/* Gives back what the cache holds, then the cache. */
void shim_cache_free(struct shim_pool pool);

/* Receives up to n (at most SHIM_BURST) packets. */
uint16_t shim_rx(uint16_t port, uint16_t queue, const struct shim_stamp *stamp, struct shim_packet *out, uint16_t n);
/* Sends packets; the number of those that were taken, from the front. */
uint16_t shim_tx(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n);
/* Gives packets back to their pools. */
void shim_free(struct shim_pool pool, struct rte_mbuf **packets, uint32_t n);

/* Copies a packet's segments to one place of at least shim_packet.total bytes. */
void shim_flatten(const struct rte_mbuf *packet, uint8_t *out);
/* Cuts a packet to its first len bytes; a shorter one is left as it is. The number of its segments. */
uint16_t shim_shorten(struct rte_mbuf *packet, uint32_t len);
/* A new packet with these bytes, in as many segments as needed, if that is at most max_segments; else NULL. */
struct rte_mbuf *shim_make(struct shim_pool pool, const uint8_t *data, uint32_t len, uint16_t max_segments);
/* Bytes of a packet. */
uint32_t shim_len(const struct rte_mbuf *packet);
/* A packet's first segment, and in *len its bytes. */
const uint8_t *shim_first(const struct rte_mbuf *packet, uint32_t *len);

#endif
