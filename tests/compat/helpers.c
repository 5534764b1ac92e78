/* The helpers of the compat tree do what their headers say. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mos_api.h>

#include "applib.h"
#include "cpu.h"
#include "http_parsing.h"
#include "netlib.h"
#include "ring_buffer.h"
#include "rss.h"
#include "tdate_parse.h"

static int failed, checked;

#define CHECK(condition) \
	do { \
		checked++; \
		if (!(condition)) { \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			failed++; \
		} \
	} while (0)

static void http(void)
{
	char text[] = "HTTP/1.1 404 Not Found\r\ncontent-length:  12\r\nDate: Sun, 06 Nov 1994 "
		      "08:49:37 GMT\r\nEmpty:\r\n\r\nbody";
	char request[] = "GET /a/b?c HTTP/1.0\r\n\r\n";
	char value[16];
	int len = (int)strlen(text), scode = 0, ver = 0;

	CHECK(find_http_header(text, 10) == 0);
	CHECK(find_http_header(text, len) == len - 4 && text[len - 5] == '\0');
	CHECK(is_http_response(text, len) && !is_http_request(text, len));
	CHECK(http_parse_first_resp_line(text, len, &scode, &ver) && scode == 404 && ver == HTTP_11);
	CHECK(http_get_status_code(text) == 404);
	CHECK(http_header_long_val(text, CONTENT_LENGTH_HDR, 15) == 12);
	CHECK(http_header_long_val(text, "Expires:", 8) == -1);
	CHECK(http_header_str_val(text, "Empty:", 6, value, sizeof(value)) == NULL && !value[0]);
	CHECK(!strcmp(http_header_str_val(text, "date:", 5, value, sizeof(value)), "Sun, 06 Nov 199"));
	CHECK(http_header_date(text, "Date:", 5) == 784111777);
	CHECK(http_check_header_field(text, "Date:") && !http_check_header_field(text, "Host:"));
	CHECK(!strcmp(http_get_http_version_resp(text, len, value, sizeof(value)), "HTTP/1.1"));
	CHECK(is_http_request(request, (int)strlen(request)) == GET);
	CHECK(http_get_url(request, (int)strlen(request), value, sizeof(value)) &&
	      !strcmp(value, "/a/b?c"));
	CHECK(!http_get_url(text, len, value, sizeof(value)) && !value[0]);
	CHECK(http_get_maxage("public, max-age=300", 19) == 300 && http_get_maxage("public", 6) == -1);
}

static void dates(void)
{
	char text[30];

	CHECK(httpdate_to_timet("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777);
	CHECK(httpdate_to_timet("Sunday, 06-Nov-94 08:49:37 GMT") == 784111777);
	CHECK(httpdate_to_timet("Sun Nov  6 08:49:37 1994") == 784111777);
	CHECK(httpdate_to_timet("yesterday") == (time_t)-1);
	CHECK(timet_to_httpdate(784111777, text, sizeof(text)) == 0 &&
	      !strcmp(text, "Sun, 06 Nov 1994 08:49:37 GMT"));
	CHECK(timet_to_httpdate(0, text, sizeof(text) - 1) == -1);
}

static void buffers(void)
{
	ring_buffer *a = InitBuffer(8), *b = InitBuffer(4);

	CHECK(GetTotSizeRBuffer(a) == 8 && GetDataSizeRBuffer(a) == 0);
	memcpy(GetInputPoint(a), "abcdef", 6);
	CHECK(AddDataLen(a, 6) == 0 && AddDataLen(a, 3) == -1 && GetRemainBufferSize(a) == 2);
	CHECK(MoveData(b, a, 5) == -1 && MoveData(b, a, 3) == 0);
	CHECK(GetDataSizeRBuffer(a) == 3 && !memcmp(GetDataPoint(a), "def", 3));
	CHECK(!memcmp(GetDataPoint(b), "abc", 3) && CheckAvailableSize(b, 1));
	CHECK(!CheckAvailableSize(b, 2) && RemoveDataFromBuffer(b, 4) == -1);
	CHECK(CopyData(a, b, 3) == 0 && GetCumSizeRBuffer(a) == 9 && !memcmp(GetDataPoint(a), "defabc", 6));
	CHECK(MoveToREPData(b, a, 1) == 1 && GetDataSizeRBuffer(b) == 4);
}

static void rest(void)
{
	static char *file, *port;
	struct Options options[] = {{"-f", &file, "a file"}, {"-p", &port, "a port"}, {NULL, NULL, NULL}};
	const char *argv[] = {"program", "-p", "80", "-f", "x"};
	struct conf_var vars[] = {{"port", "1"}, {"name", ""}, {"port_too", "2"}};
	char path[] = "/tmp/applib.XXXXXX";
	char text[] = "GET / HTTP/1.1\r\nContent-Length: 7\r\n";
	long n = 0;
	int fd = mkstemp(path);
	FILE *out = fdopen(fd, "w");

	ParseOptions(5, argv, options);
	CHECK(!strcmp(file, "x") && !strcmp(port, "80"));
	CHECK(mystrtol("-12", 10) == -12);
	CHECK(GetHeaderLong(text, "Content-Length:", 15, &n) && n == 7);
	CHECK(GetHeaderString(text, "Host:", 5) == NULL);
	CHECK(GetNumCPUCores() == GetNumCPUs() && CoreAffinitize(-1) == -1);

	fputs("# port = 5\n  port = 8080 # comment\nname=a b\t\nother = 1\n", out);
	fclose(out);
	CHECK(LoadConfig(path, vars, 3) == 0);
	CHECK(!strcmp(vars[0].value, "8080") && !strcmp(vars[1].value, "a b") &&
	      !strcmp(vars[2].value, "2"));
	unlink(path);
	CHECK(LoadConfig(path, vars, 3) == -1);
	CHECK(sizeof(struct conf_var) == 112);
	CHECK(!strcmp(strevent(MOS_EPOLLIN), "MOS_EPOLLIN") && !strcmp(strevent(3), "Unknown"));
	CHECK(!strcmp(strevent((uint64_t)MOS_EPOLLET), "MOS_EPOLLET"));
	CHECK(!strcmp(strcbevent(MOS_ON_CONN_END), "MOS_ON_CONN_END") && !strcmp(strcbevent(0), "Unknown"));

	/* By hand: input byte 0x80 gives the key itself, 0x01 the key rotated by seven. */
	CHECK(GetRSSHash(0x80, 0, 0, 0) == 0x05050505 && GetRSSHash(0, 1, 0, 0) == 0x82828282);
	CHECK(GetRSSHash(0x0a000001, 0x0a000002, 1234, 80) == GetRSSHash(0x0a000002, 0x0a000001, 80, 1234));
}

int main(void)
{
	http();
	dates();
	buffers();
	rest();
	printf("compat helpers: %d checked, %d failed\n", checked, failed);
	return failed != 0;
}
