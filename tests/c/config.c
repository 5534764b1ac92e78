/* config FILE...: each configuration file initialises the library. Nothing on stderr means no warning either. */
#include <stdio.h>
#include <string.h>
#include <mos_api.h>

int main(int argc, char **argv)
{
	static struct mtcp_conf conf;
	int i, wrong = 0;

	for (i = 1; i < argc; i++) {
		memset(&conf, 0, sizeof conf);
		if (mtcp_init(argv[i]) < 0 || mtcp_getconf(&conf) < 0 || conf.num_cores < 1 ||
		    conf.max_concurrency < 1 || conf.num_app != 1) {
			fprintf(stderr, "%s: refused, or not as written\n", argv[i]);
			wrong = 1;
		}
		mtcp_destroy();
	}
	return wrong;
}
