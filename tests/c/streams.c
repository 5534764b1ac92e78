/* streams -f mos.conf: reassembles every flow of a capture and prints, when the flow has ended, one line
 *   client cport server sport instance c2s_bytes c2s_sha256 s2c_bytes s2c_sha256
 * where c2s is what the server side received (side SVR), s2c what the client side received, instance counts the flows
 * of one 4-tuple from 0. A side is hashed up to its first missing byte; urgent bytes stay in line. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <mos_api.h>
#include <mtcp_api.h>

/* ---- SHA-256 (FIPS 180-4) ---- */
struct sha { uint32_t h[8]; uint64_t len; uint8_t block[64]; };
static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2 };

static void sha_init(struct sha *s)
{
	static const uint32_t h0[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	memcpy(s->h, h0, sizeof h0);
	s->len = 0;
}

static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha_block(struct sha *s)
{
	uint32_t w[64], v[8];
	int i;
	for (i = 0; i < 16; i++)
		w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 | (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
	for (; i < 64; i++)
		w[i] = w[i - 16] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] + (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, s->h, sizeof v);
	for (i = 0; i < 64; i++) {
		uint32_t t1 = v[7] + (ror(v[4], 6) ^ ror(v[4], 11) ^ ror(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
		uint32_t t2 = (ror(v[0], 2) ^ ror(v[0], 13) ^ ror(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof v[0]);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (i = 0; i < 8; i++)
		s->h[i] += v[i];
}

static void sha_update(struct sha *s, const uint8_t *p, size_t n)
{
	while (n > 0) {
		size_t at = s->len % 64, take = 64 - at < n ? 64 - at : n;
		memcpy(s->block + at, p, take);
		s->len += take;
		p += take;
		n -= take;
		if (s->len % 64 == 0)
			sha_block(s);
	}
}

static void sha_hex(const struct sha *from, char out[65])
{
	struct sha s = *from;
	uint64_t bits = s.len * 8;
	uint8_t pad[72] = { 0x80 };
	size_t zeros = (119 - s.len % 64) % 64 + 1; /* the 0x80 counted */
	int i;
	for (i = 0; i < 8; i++)
		pad[zeros + i] = (uint8_t)(bits >> (56 - 8 * i));
	sha_update(&s, pad, zeros + 8);
	for (i = 0; i < 8; i++)
		sprintf(out + 8 * i, "%08x", s.h[i]);
}

/* ---- flows ---- */
struct flow {
	struct flow *next;
	struct sockaddr_in end[2]; /* client, server */
	unsigned instance;
	int done, stopped[2];      /* by side that received */
	struct sha got[2];
};
struct tuple { struct sockaddr_in end[2]; unsigned seen; };
static struct tuple *tuples;
static size_t ntuples;

static int same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
	return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

static unsigned next_instance(const struct sockaddr_in end[2])
{
	size_t i;
	struct tuple *more;
	for (i = 0; i < ntuples; i++)
		if (same(&tuples[i].end[0], &end[0]) && same(&tuples[i].end[1], &end[1]))
			return tuples[i].seen++;
	if (!(more = realloc(tuples, (ntuples + 1) * sizeof *tuples)))
		exit(1);
	tuples = more;
	memcpy(tuples[ntuples].end, end, sizeof tuples[ntuples].end);
	tuples[ntuples++].seen = 1;
	return 0;
}

/* -j: flows of one tuple are one stream, whatever ended them in between */
static int join;
static struct flow *joined;

static struct flow *earlier(const struct sockaddr_in end[2])
{
	struct flow *f;
	for (f = joined; f; f = f->next)
		if (same(&f->end[0], &end[0]) && same(&f->end[1], &end[1]))
			return f;
	return NULL;
}

static struct flow *flow_of(mctx_t m, int sock)
{
	struct flow *before;
	struct flow *f = mtcp_get_uctx(m, sock);
	socklen_t len = 2 * sizeof(struct sockaddr_in);
	if (f)
		return f;
	if (!(f = calloc(1, sizeof *f)))
		exit(1);
	if (mtcp_getpeername(m, sock, (struct sockaddr *)f->end, &len, MOS_SIDE_BOTH)) {
		fprintf(stderr, "getpeername failed\n");
		exit(1);
	}
	if (join && (before = earlier(f->end))) {
		free(f);
		mtcp_set_uctx(m, sock, before);
		before->done = 0;
		return before;
	}
	f->next = joined;
	joined = f;
	f->instance = next_instance(f->end);
	sha_init(&f->got[0]);
	sha_init(&f->got[1]);
	mtcp_set_uctx(m, sock, f);
	return f;
}

static void take(mctx_t m, int sock, struct flow *f, int side)
{
	static char buf[65536];
	ssize_t n = 0;
	while (!f->stopped[side] && (n = mtcp_peek(m, sock, side, buf, sizeof buf)) > 0)
		sha_update(&f->got[side], (uint8_t *)buf, n);
	if (n < 0)
		f->stopped[side] = 1; /* bytes are missing: the prefix ends here */
}

static void print(struct flow *f);
static void on_start(mctx_t m, int sock, int side, event_t e, filter_arg_t *a) { flow_of(m, sock); }
static void on_data(mctx_t m, int sock, int side, event_t e, filter_arg_t *a) { take(m, sock, flow_of(m, sock), side); }

static void on_end(mctx_t m, int sock, int side, event_t e, filter_arg_t *a)
{
	struct flow *f = flow_of(m, sock);
	if (f->done)
		return; /* CONN_END comes once a side: the first call has read both */
	take(m, sock, f, MOS_SIDE_CLI);
	take(m, sock, f, MOS_SIDE_SVR);
	f->done = 1; /* kept: the other side's callback still finds it */
	if (!join)
		print(f);
}

static void print(struct flow *f)
{
	char c2s[65], s2c[65], client[32], server[32];
	sha_hex(&f->got[MOS_SIDE_SVR], c2s);
	sha_hex(&f->got[MOS_SIDE_CLI], s2c);
	inet_ntop(AF_INET, &f->end[0].sin_addr, client, sizeof client);
	inet_ntop(AF_INET, &f->end[1].sin_addr, server, sizeof server);
	printf("%s %d %s %d %u %llu %s %llu %s\n", client, ntohs(f->end[0].sin_port), server, ntohs(f->end[1].sin_port), f->instance,
	       (unsigned long long)f->got[MOS_SIDE_SVR].len, c2s, (unsigned long long)f->got[MOS_SIDE_CLI].len, s2c);
}

int main(int argc, char **argv)
{
	const char *conf = "mos.conf";
	int o, sock;
	mctx_t m;
	while ((o = getopt(argc, argv, "f:j")) != -1) {
		if (o == 'f')
			conf = optarg;
		else if (o == 'j')
			join = 1;
	}
	if (mtcp_init(conf)) {
		fprintf(stderr, "mtcp_init failed\n");
		return 1;
	}
	if (!(m = mtcp_create_context(0))) {
		fprintf(stderr, "mtcp_create_context failed\n");
		return 1;
	}
	if ((sock = mtcp_socket(m, AF_INET, MOS_SOCK_MONITOR_STREAM, 0)) < 0 ||
	    mtcp_register_callback(m, sock, MOS_ON_CONN_START, MOS_HK_SND, on_start) ||
	    mtcp_register_callback(m, sock, MOS_ON_CONN_NEW_DATA, MOS_NULL, on_data) ||
	    mtcp_register_callback(m, sock, MOS_ON_CONN_END, MOS_HK_RCV, on_end)) {
		fprintf(stderr, "registration failed\n");
		return 1;
	}
	mtcp_app_join(m);
	for (; join && joined; joined = joined->next)
		print(joined);
	mtcp_destroy_context(m);
	mtcp_destroy();
	return 0;
}
