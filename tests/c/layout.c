/* The C interface has the sizes, offsets and values that compiled programs rely on. */
#include <mos_ext.h>
#include <mtcp_util.h>

#define ALIGN(type) __alignof__(type)
#define CHECK(condition) _Static_assert(condition, #condition)

#include "layout.inc"

/* What programs do with a packet's headers, through mos_api.h alone. */
static int reads_headers(const struct pkt_info *p)
{
	return ntohs(p->ethh->h_proto) == ETH_P_IP && p->iph->protocol == IPPROTO_TCP &&
	       p->iph->saddr != p->iph->daddr && p->tcph->source != p->tcph->dest &&
	       p->tcph->syn && !p->tcph->ack && p->tcph->doff >= 5 &&
	       p->iph->ihl * 4 + ntohl(p->tcph->seq) > 0 && p->iph->daddr != inet_addr("0.0.0.0");
}

int main(void)
{
	struct ethhdr eth = {.h_proto = htons(ETH_P_IP)};
	struct iphdr ip = {.protocol = IPPROTO_TCP, .ihl = 5, .saddr = 1, .daddr = 2};
	struct tcphdr tcp = {.source = 1, .dest = 2, .syn = 1, .doff = 5};
	struct pkt_info p = {.ethh = &eth, .iph = &ip, .tcph = &tcp};
	bool ok = reads_headers(&p);

	return ok ? 0 : 1;
}
