/* See shim.h. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include <rte_log.h>
#include <rte_prefetch.h>

#include "shim.h"

int shim_eal_init(int argc, char **argv)
{
	char name[] = "mos";
	char *nothing[] = { name, NULL };
	char *arg = optarg;
	int ind = optind, err = opterr, opt = optopt, result;

	/* EAL sets optind to 1, but an application may have stopped inside a word such as -abc: getopt() would go on there. A
	 * scan of nothing that begins with optind 0 makes it forget. */
	optind = 0;
	(void)getopt(1, nothing, "");
	result = rte_eal_init(argc, argv);
	optarg = arg;
	optind = ind;
	opterr = err;
	optopt = opt;
	return result;
}

void shim_log_to_stderr(void)
{
	rte_openlog_stream(stderr);
}

int shim_errno(void)
{
	return rte_errno;
}

int shim_is_lcore(void)
{
	return rte_lcore_id() != LCORE_ID_ANY;
}

int shim_link_up(uint16_t port)
{
	struct rte_eth_link link;

	memset(&link, 0, sizeof(link));
	return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

struct rte_mempool_cache *shim_cache_create(void)
{
	return rte_mempool_cache_create(RTE_MEMPOOL_CACHE_MAX_SIZE, SOCKET_ID_ANY);
}

void shim_cache_free(struct shim_pool pool)
{
	if (pool.cache == NULL)
		return;
	rte_mempool_cache_flush(pool.cache, pool.pool);
	rte_mempool_cache_free(pool.cache);
}

uint16_t shim_rx(uint16_t port, uint16_t queue, const struct shim_stamp *stamp, struct shim_packet *out, uint16_t n)
{
	struct rte_mbuf *packets[SHIM_BURST];
	uint16_t got, i;

	got = rte_eth_rx_burst(port, queue, packets, RTE_MIN(n, SHIM_BURST));
	for (i = 0; i < got; i++)
		rte_prefetch0(packets[i]);
	for (i = 0; i < got; i++) {
		struct rte_mbuf *m = packets[i];
		uint64_t of = m->ol_flags;
		uint32_t flags = 0;

		if ((of & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD)
			flags |= SHIM_IP_GOOD;
		if ((of & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
			flags |= SHIM_L4_GOOD;
		out[i].stamp = 0;
		if (stamp->offset >= 0 && (of & stamp->flag) != 0) {
			flags |= SHIM_STAMPED;
			out[i].stamp = *RTE_MBUF_DYNFIELD(m, stamp->offset, uint64_t *);
		}
		out[i].mbuf = m;
		out[i].data = rte_pktmbuf_mtod(m, uint8_t *);
		out[i].len = rte_pktmbuf_data_len(m);
		out[i].total = rte_pktmbuf_pkt_len(m);
		out[i].flags = flags;
		rte_prefetch0(out[i].data);
	}
	return got;
}

uint16_t shim_tx(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t n)
{
	return rte_eth_tx_burst(port, queue, packets, n);
}

void shim_free(struct shim_pool pool, struct rte_mbuf **packets, uint32_t n)
{
	uint32_t i;

	if (pool.cache == NULL) {
		rte_pktmbuf_free_bulk(packets, n);
		return;
	}
	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = packets[i], *next;

		for (; m != NULL; m = next) {
			next = m->next;
			m = rte_pktmbuf_prefree_seg(m);
			if (m != NULL && m->pool == pool.pool)
				rte_mempool_generic_put(m->pool, (void **)&m, 1, pool.cache);
			else if (m != NULL)
				rte_mbuf_raw_free(m);
		}
	}
}

void shim_flatten(const struct rte_mbuf *packet, uint8_t *out)
{
	uint32_t left = packet->pkt_len;

	for (; packet != NULL && left > 0; packet = packet->next) {
		uint32_t len = RTE_MIN(left, (uint32_t)packet->data_len);

		memcpy(out, rte_pktmbuf_mtod(packet, const void *), len);
		out += len;
		left -= len;
	}
	/* Segments that hold less than the packet claims. */
	memset(out, 0, left);
}

uint16_t shim_shorten(struct rte_mbuf *packet, uint32_t len)
{
	struct rte_mbuf *m = packet;
	uint32_t left = len;
	uint16_t segments = 1;

	if (len >= packet->pkt_len)
		return packet->nb_segs;
	while (m->data_len < left && m->next != NULL) {
		left -= m->data_len;
		m = m->next;
		segments++;
	}
	m->data_len = RTE_MIN(left, (uint32_t)m->data_len);
	if (m->next != NULL) {
		struct rte_mbuf *rest = m->next;

		m->next = NULL;
		rte_pktmbuf_free(rest);
	}
	packet->nb_segs = segments;
	packet->pkt_len = len;
	return segments;
}

static struct rte_mbuf *take(struct shim_pool pool)
{
	void *m;

	if (pool.cache == NULL)
		return rte_pktmbuf_alloc(pool.pool);
	if (rte_mempool_generic_get(pool.pool, &m, 1, pool.cache) != 0)
		return NULL;
	rte_pktmbuf_reset(m);
	return m;
}

struct rte_mbuf *shim_make(struct shim_pool pool, const uint8_t *data, uint32_t len, uint16_t max_segments)
{
	struct rte_mbuf *first = NULL, *last = NULL;
	uint16_t segments = 0;
	uint32_t left = len;

	do {
		struct rte_mbuf *m = segments < max_segments ? take(pool) : NULL;
		uint32_t part;

		if (m == NULL) {
			if (first != NULL)
				shim_free(pool, &first, 1);
			return NULL;
		}
		part = RTE_MIN(left, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_mtod(m, void *), data, part);
		m->data_len = part;
		data += part;
		left -= part;
		segments++;
		if (first == NULL)
			first = m;
		else
			last->next = m;
		last = m;
		first->nb_segs = segments;
	} while (left > 0);
	first->pkt_len = len;
	return first;
}

uint32_t shim_len(const struct rte_mbuf *packet)
{
	return rte_pktmbuf_pkt_len(packet);
}

const uint8_t *shim_first(const struct rte_mbuf *packet, uint32_t *len)
{
	*len = rte_pktmbuf_data_len(packet);
	return rte_pktmbuf_mtod(packet, const uint8_t *);
}
