/*
 * http_parsing.h - just enough HTTP/1 for test clients and servers.
 *
 * Header fields are looked up in text that ends in NUL; a `key` is the field's name with its
 * colon, and is compared without regard to case at the start of a line.
 */
#ifndef MOS_UTIL_HTTP_PARSING_H
#define MOS_UTIL_HTTP_PARSING_H

#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HTTP_GET           "GET"
#define CONTENT_LENGTH_HDR "Content-Length:"
#define CONN_HDR_FLD       "Connection:"
#define KEEP_ALIVE_STR     "Keep-Alive"

enum { GET = 1, POST };
enum { HTTP_09, HTTP_10, HTTP_11 };

/*
 * Length of the header in the first len bytes, with the empty line that ends it; 0 when that
 * line has not come yet. The header's last byte is overwritten by NUL.
 */
int find_http_header(char *data, int len);

/* Do the bytes begin with "HTTP/"? */
int is_http_response(char *data, int len);

/* GET or POST when the bytes begin with that method, else 0. */
int is_http_request(char *data, int len);

/* Copies a field's value, cut to value_len - 1 bytes. NULL (and "") without one. */
char *http_header_str_val(const char *buf, const char *key, const int key_len, char *value,
			  int value_len);

/* A field's value as a decimal number; -1 without one. */
long int http_header_long_val(const char *buf, const char *key, int key_len);

/* Copies the version word of a status line ("HTTP/1.1"). NULL when it is none. */
char *http_get_http_version_resp(char *data, int len, char *value, int value_len);

/* Copies the target of a GET request. NULL (and "") when it is none. */
char *http_get_url(char *data, int data_len, char *value, int value_len);

/* The status code of a response; -1 when it has none. */
int http_get_status_code(void *response);

/* The seconds of max-age in a Cache-Control value; -1 without it. */
int http_get_maxage(char *cache_ctl, int len);

/* A field's value as a date; (time_t)-1 without one. */
time_t http_header_date(const char *data, const char *field, int len);

/* Code and version (HTTP_10 ...) of a status line. 1 when it is one, else 0. */
int http_parse_first_resp_line(const char *data, int len, int *scode, int *ver);

/* Is there such a field? */
int http_check_header_field(const char *data, const char *field);

#ifdef __cplusplus
}
#endif

#endif
