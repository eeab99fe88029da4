# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Builds mod_fastcgi_handler through apxs, and mod_proxy_fastcgi in proxy/, and
# runs what shows that they work; "make help" lists the targets.  The first
# alone needs no more than
#
#     apxs -i -a -o mod_fastcgi_handler.so -c *.c

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

MODULE  := mod_fastcgi_handler
SOURCES := $(sort $(wildcard *.c))
HEADERS := $(sort $(wildcard *.h))
BUILT   := .libs/$(MODULE).so
PROXY   := mod_proxy_fastcgi
PROXY_SOURCES := $(sort $(wildcard proxy/*.c))
PROXY_HEADERS := $(sort $(wildcard proxy/*.h)) fcgi_engine.h
PROXY_BUILT   := proxy/.libs/$(PROXY).so
ASAN    := build/asan
COVERED := build/coverage
DEB     := libapache2-mod-fastcgi-handler
# A version that is not released yet comes before it: 1.0.0~dev.
VERSION := $(subst -,~,$(shell sed -n \
    's/^.define FCGI_MODULE_VERSION "\(.*\)"/\1/p' fcgi_version.h))
DIST    := build/$(MODULE)-$(VERSION).tar.gz
# What a build leaves is in no package.
PACK    := tar -c --exclude-vcs --exclude=./build --exclude=.libs \
    --exclude='*.o' --exclude='*.lo' --exclude='*.slo' --exclude='*.la' \
    --exclude='*.so' --exclude='*.profraw' --owner=0 --group=0 --sort=name
TESTS   ?= t/*.t
CORES   := $(shell nproc)

# Tests wait more than they work, and run side by side, those first that take
# longest; but those that measure time or instructions come before all others
# (t/testrules.yml).
JOBS    ?= 6
LONGEST := $(addprefix t/,16-package.t 10-build.t 92-faults.t 96-machines.t \
    48-slow-readers.t 17-rpm.t 99-soak.t 37-big-body.t 99-stress.t \
    15-docs.t 49-answers.t 12-addresses.t 13-backends.t 93-half-closed.t \
    96-dead-address.t 09-model.t)
PROVE   = prove -It/lib -j$(JOBS) $(PROVE_FLAGS)
# In that order; a name that is no file is prove's to complain of.
IN_ORDER = $(foreach name,$(LONGEST),$(filter $(name),$(NAMED))) \
    $(filter-out $(LONGEST),$(NAMED))
NAMED    = $(foreach name,$(TESTS),$(or $(wildcard $(name)),$(name)))

ifeq ($(origin APXS),undefined)
APXS := $(firstword $(notdir $(shell command -v apxs || command -v apxs2)) apxs)
endif

WARNINGS := -Wall -Wextra
# Nobody replaces a function of the module, and httpd's need no stub: calls are
# direct. A small request makes a thousand.
DIRECT   := -fno-plt -fno-semantic-interposition
DIRECT_LINK := -Wl,-Bsymbolic-functions
# What a mistake here would cost is bounded, whatever the distribution's own
# flags are, which often have a lower _FORTIFY_SOURCE.
HARDENED := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
HARDENED_LINK := -Wl,-z,relro -Wl,-z,now
# What every source must pass without a word, on gcc and on clang.
STRICT   := -std=c99 $(WARNINGS) -Werror -Wshadow -Wvla -Wpointer-arith \
            -Wstrict-prototypes -Wmissing-prototypes
SANITIZERS := -fsanitize=address,undefined -fno-omit-frame-pointer

# The flags httpd's modules are compiled with, for compilers and checkers that
# do not run under apxs; the headers of httpd and APR are not ours to judge.
httpd_flags = $(shell $(APXS) -q EXTRA_CPPFLAGS) \
    -isystem $(shell $(APXS) -q INCLUDEDIR) \
    -isystem $(shell `$(APXS) -q APR_CONFIG` --includedir)

# apxs and libtool print each command they run: shown with V=1 only.
ifneq ($(V),1)
export LTFLAGS := --silent
quietly = 2>&1 | sed -E '/--mode=(compile|link|install) /d; /^chmod /d; \
    /^libtool: (install|finish|warning: remember)/d; /instdso.sh /d; \
    /^-{60,}$$/,/^-{60,}$$/d; /^$$/d'
endif

comma := ,
# Compiler flags in the form apxs passes on: -Wc,-Wall -Wc,-Wextra
through_apxs = $(addprefix -Wc$(comma),$(1))
# And the linker's.
link_through_apxs = $(addprefix -Wl$(comma),$(1))

.PHONY: all apxs deps install deb dist demo test faults model soak fuzz \
    coverage bench bench-instructions update-instructions picture lint format \
    check-format check-functions check-warnings check-static asan test-asan \
    test-late clean help
.DELETE_ON_ERROR:

all: $(BUILT) $(PROXY_BUILT)

$(BUILT): $(SOURCES) $(HEADERS) Makefile | apxs
	@echo "Building $@"
	@$(APXS) -c -o $(MODULE).so \
	    $(call through_apxs,$(WARNINGS) $(DIRECT) \
	        $(CPPFLAGS) $(HARDENED) $(CFLAGS)) \
	    $(call link_through_apxs,$(DIRECT_LINK) $(HARDENED_LINK) \
	        $(LDFLAGS)) \
	    $(SOURCES) $(quietly)

$(PROXY_BUILT): $(PROXY_SOURCES) $(PROXY_HEADERS) Makefile | apxs
	@echo "Building $@"
	@cd proxy && $(APXS) -c -o $(PROXY).so \
	    $(call through_apxs,$(WARNINGS) $(CPPFLAGS) $(HARDENED) $(CFLAGS)) \
	    $(call link_through_apxs,$(HARDENED_LINK) $(LDFLAGS)) \
	    $(notdir $(PROXY_SOURCES)) $(quietly)

apxs:
	@command -v $(APXS) >/dev/null || { printf '%s\n' \
	    "$(APXS) is not here; it builds httpd's modules and comes with" \
	    "    Debian, Ubuntu   apt-get install apache2-dev gcc" \
	    "    Fedora           dnf install httpd-devel gcc" \
	    "or name it: make APXS=/path/to/apxs" >&2; exit 1; }

# Into the httpd that apxs belongs to, or for a package below DESTDIR.
install: $(BUILT) $(PROXY_BUILT)
	@dir="$$($(APXS) -q LIBEXECDIR)"; \
	mkdir -p "$(DESTDIR)$$dir"; \
	$(APXS) -i -n fastcgi_handler -S LIBEXECDIR="$(DESTDIR)$$dir" \
	    $(MODULE).la $(quietly); \
	$(APXS) -i -n proxy_fastcgi -S LIBEXECDIR="$(DESTDIR)$$dir" \
	    proxy/$(PROXY).la $(quietly); \
	echo "Installed $(DESTDIR)$$dir/$(MODULE).so"; \
	echo "httpd loads it with: LoadModule fastcgi_handler_module" \
	    "$$dir/$(MODULE).so"; \
	echo "and, only for fcgi:// URLs of mod_proxy: LoadModule" \
	    "proxy_fastcgi_module $$dir/$(PROXY).so"

# The Debian package.  Built in a copy, because dpkg-buildpackage writes into
# the folder it builds from and beside it.
deb:
	@t/deps build deb
	@echo "Building the package (build/deb.log)"
	@rm -rf build/package build/$(DEB)*
	@mkdir -p build/package
	@$(PACK) . | tar -x -C build/package
	@cd build/package && env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u LTFLAGS \
	    dpkg-buildpackage -us -uc -b >../deb.log 2>&1 \
	    || { cat ../deb.log >&2; exit 1; }
	@rm -rf build/package
	@ls build/$(DEB)_*.deb

# All of it as one file, which "rpmbuild -tb" takes as it is.
dist:
	@mkdir -p $(dir $(DIST))
	@$(PACK) --transform 's,^\.,$(MODULE)-$(VERSION),' . \
	    | gzip -n9 >$(DIST)
	@echo $(DIST)

deps:
	@t/deps build demo test

demo:
	@t/deps build demo
	@$(MAKE) --no-print-directory all
	@exec perl -It/lib demo/demo.pl

# MPM=event|worker|prefork, TRANSPORT=unix|tcp and PARK=0 reach the tests through the
# environment; TESTS="t/20-*.t" runs some of them, JOBS=1 one at a time.
test: deps
	@$(MAKE) --no-print-directory all
	@$(PROVE) $(IN_ORDER)

# Every call of the system that the module makes for requests of each kind
# fails in each way, each time that it is made; FAULTS_ONLY=post/sendmsg some.
faults: deps
	@$(MAKE) --no-print-directory all
	@FAULTS_ALL=1 $(PROVE) t/92-faults.t

# The line, in all orders of steps and with a kill at any.
model: deps
	@$(PROVE) -v t/09-model.t

# Beside mod_proxy_fcgi and nginx; BENCH_ROUNDS=, BENCH_SECONDS= and
# BENCH_ONLY= reach t/bench/bench.pl through the environment, as MPM= does.
bench:
	@t/deps build demo bench
	@$(MAKE) --no-print-directory all
	@exec perl t/bench/bench.pl

# How many instructions a small GET takes: the same numbers on any machine with
# these versions of httpd and the compiler, however busy it is; over HTTP/2
# only with one thread at a time.
bench-instructions:
	@t/deps build demo test
	@$(MAKE) --no-print-directory all
	@exec perl t/bench/instructions.pl

# The README's picture of the status page.
picture:
	@t/deps build demo test
	@$(MAKE) --no-print-directory all
	@exec perl t/bench/picture.pl

# The figures above which t/19-instructions.t fails.
update-instructions:
	@t/deps build demo test
	@$(MAKE) --no-print-directory all
	@exec perl t/bench/instructions.pl --update

# The module under AddressSanitizer and UBSan, apart from the normal build.
asan: $(ASAN)/$(MODULE).so $(ASAN)/proxy/$(PROXY).so

$(ASAN)/$(MODULE).so: $(SOURCES) $(HEADERS) Makefile | apxs
	@echo "Building $@"
	@rm -rf $(ASAN) && mkdir -p $(ASAN)
	@ln -s $(addprefix ../../,$(SOURCES) $(HEADERS)) $(ASAN)
	@cd $(ASAN) && $(APXS) -c -o $(MODULE).so \
	    $(call through_apxs,$(WARNINGS) -O1 $(SANITIZERS)) \
	    $(addprefix -Wl$(comma),$(SANITIZERS)) $(SOURCES) $(quietly)
	@ln -s .libs/$(MODULE).so $@

$(ASAN)/proxy/$(PROXY).so: $(PROXY_SOURCES) $(PROXY_HEADERS) Makefile \
    $(ASAN)/$(MODULE).so | apxs
	@echo "Building $@"
	@rm -rf $(ASAN)/proxy && mkdir -p $(ASAN)/proxy
	@ln -s $(addprefix ../../../,$(PROXY_SOURCES) \
	    $(filter proxy/%,$(PROXY_HEADERS))) $(ASAN)/proxy
	@cd $(ASAN)/proxy && $(APXS) -c -o $(PROXY).so \
	    $(call through_apxs,$(WARNINGS) -O1 $(SANITIZERS)) \
	    $(addprefix -Wl$(comma),$(SANITIZERS)) $(notdir $(PROXY_SOURCES)) \
	    $(quietly)
	@ln -s .libs/$(PROXY).so $@

# With that module; leaks are httpd's business at exit.
WITH_ASAN = MODULE_SO="$(CURDIR)/$(ASAN)/$(MODULE).so" \
    HTTPD_PRELOAD="$$(gcc -print-file-name=libasan.so)" \
    ASAN_OPTIONS="detect_leaks=0:$${ASAN_OPTIONS-}" \
    UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1:$${UBSAN_OPTIONS-}"

# The live tests.
test-asan: TESTS = t/[2-9]*.t
test-asan: deps
	@$(MAKE) --no-print-directory asan
	@$(WITH_ASAN) $(PROVE) $(IN_ORDER)

# The live tests, with an httpd that is late at random (t/late/late.c); without
# those of so many lines, bytes or requests that they would take hours, and
# those that have more than one httpd, or a library of their own.
test-late: TESTS = $(filter-out $(addprefix t/,47-stderr.t 66-small-pieces.t \
    92-faults.t 92-swapped-files.t 96-machines.t 99-soak.t), \
    $(wildcard t/[2-9]*.t))
test-late: deps
	@$(MAKE) --no-print-directory all
	@mkdir -p build
	@$(CC) -O2 $(WARNINGS) -shared -fPIC -o build/late.so t/late/late.c -ldl
	@HTTPD_PRELOAD="$(CURDIR)/build/late.so" $(PROVE) $(IN_ORDER)

# TIME=30m, SEED=, CLIENTS= and CROWD= reach t/99-soak.t through the
# environment; SANITIZE=1 takes the module with sanitizers.
soak: export TIME ?= 5m
soak: deps
	@$(MAKE) --no-print-directory $(if $(SANITIZE),asan,all)
	@$(if $(SANITIZE),$(WITH_ASAN)) prove -v -It/lib t/99-soak.t

# Looks for inputs that are not taken as they should be, by libFuzzer: FUZZ_TIME=
# seconds for each target, TARGETS="record head" for some.
fuzz:
	@t/deps build test lint
	@t/fuzz/run $(TARGETS)

# What the tests reach, by lines and branches (TESTS= for some of them).  The
# counters lie in files that all processes of a server share, so that children
# that are killed count, too; clang links the modules, as only their counting
# matters.
COUNTING := -O1 -g -fPIC -shared -fprofile-instr-generate -fcoverage-mapping \
    -mllvm -runtime-counter-relocation

coverage: deps | apxs
	@t/deps build lint
	@rm -rf $(COVERED) && mkdir -p $(COVERED)/{proxy,programs}
	@mkdir -m 1777 $(COVERED)/counts
	@clang $(COUNTING) $(httpd_flags) $(SOURCES) \
	    -o $(COVERED)/$(MODULE).so
	@clang $(COUNTING) $(httpd_flags) $(PROXY_SOURCES) \
	    -o $(COVERED)/proxy/$(PROXY).so
	@COVERAGE="$(CURDIR)/$(COVERED)" CC=clang \
	    MODULE_SO="$(CURDIR)/$(COVERED)/$(MODULE).so" \
	    LLVM_PROFILE_FILE="$(CURDIR)/$(COVERED)/counts/%c%p.profraw" \
	    $(PROVE) $(IN_ORDER) || echo "Not all tests pass; what they reached:"
	@t/coverage $(COVERED)

lint:
	@t/deps build lint
	@$(MAKE) --no-print-directory check-format check-functions
	@$(MAKE) --no-print-directory check-warnings CC=gcc
	@$(MAKE) --no-print-directory check-warnings CC=clang
	@$(MAKE) --no-print-directory check-static

FORMATTED = $(SOURCES) $(HEADERS) $(PROXY_SOURCES) \
    $(filter proxy/%,$(PROXY_HEADERS)) $(wildcard demo/*.c t/*/*.c t/*/*.h)

check-format:
	@echo "Checking the format (make format corrects it)"
	@failed=0; for file in $(FORMATTED); do \
	    clang-format "$$file" | diff -u --label "$$file" \
	        --label "$$file, formatted" "$$file" - || failed=1; \
	done; exit $$failed

format:
	@clang-format -i $(FORMATTED)

check-functions:
	@echo "Checking the size of functions"
	@t/lint-functions

# At -O2 some warnings see more.  Every source is tried before it fails.
check-warnings: | apxs
	@echo "Checking for warnings of $(CC)"
	@printf '%s\n' $(SOURCES) $(PROXY_SOURCES) | xargs -P$(CORES) -n1 \
	    $(CC) -O2 $(STRICT) $(httpd_flags) -fPIC -c -o /dev/null

check-static: | apxs
	@echo "Checking with cppcheck"
	@cppcheck -j$(CORES) --quiet --error-exitcode=1 --std=c99 --inline-suppr \
	    --enable=warning,performance,portability \
	    --suppress=missingIncludeSystem $(SOURCES) $(PROXY_SOURCES)
	@echo "Checking with clang-tidy"
	@printf '%s\n' $(SOURCES) $(PROXY_SOURCES) | xargs -P$(CORES) -n8 sh -c \
	    'exec clang-tidy --quiet --warnings-as-errors="*" \
	        --checks=$(TIDY_CHECKS) "$$@" -- -std=c99 $(httpd_flags)' \
	    clang-tidy $(findings)

# The findings without the path that leads to each; V=1 shows it.
ifneq ($(V),1)
findings = 2>&1 | awk '/: note:/ { hidden = 1 } \
    /: (error|warning):/ { hidden = 0 } \
    !hidden && NF && !/^[0-9]+ warnings? (generated|treated)/'
endif

# What finds mistakes rather than taste.  Left out: C11's memcpy_s, which C
# libraries do not have; "if (strcmp(a, b))" and 64 * 1024, as httpd writes;
# branches of the same content that say different things.
TIDY_CHECKS := "-*,clang-analyzer-*,bugprone-*,$\
    -clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,$\
    -bugprone-branch-clone,$\
    -bugprone-easily-swappable-parameters,$\
    -bugprone-suspicious-string-compare,$\
    -bugprone-implicit-widening-of-multiplication-result"

clean:
	@rm -rf .libs proxy/.libs build
	@rm -f {,proxy/}*.{o,lo,slo,la,so}

help:
	@printf '%s\n' \
	    "make            build both modules with apxs" \
	    "make install    put them into that httpd (DESTDIR=)" \
	    "make deb        build/$(DEB)_*.deb" \
	    "make demo       PHP, Django and C behind a private httpd, to try" \
	    "make test       install what tests need, build, run all of them" \
	    "                (MPM=event|worker|prefork TRANSPORT=unix|tcp PARK=0" \
	    "                TESTS= JOBS=)" \
	    "make faults     let each system call fail in turn, each time it is made" \
	    "                (FAULTS_ONLY=post, or post/sendmsg)" \
	    "make model      the line, in all orders of steps, a kill at any" \
	    "make bench      compare with mod_proxy_fcgi and nginx, 7 minutes" \
	    "                (MPM= BENCH_ROUNDS= BENCH_SECONDS= BENCH_ONLY=)" \
	    "make bench-instructions   what a small GET takes, in instructions" \
	    "make update-instructions  and keeps that as the figures for CI" \
	    "make picture    docs/status.png, of ten minutes (PICTURE_SECONDS=)" \
	    "make asan       build/asan/$(MODULE).so, with sanitizers" \
	    "make test-asan  the live tests with it" \
	    "make test-late  the live tests, with an httpd that is late at random" \
	    "                (LATE=3, percent of its system calls)" \
	    "make soak       everything at once, 5 minutes (TIME=30m SEED=" \
	    "                SANITIZE=1 CLIENTS= CROWD= MPM=)" \
	    "make fuzz       let libFuzzer look for what breaks it, a minute each" \
	    "                (FUZZ_TIME= TARGETS=)" \
	    "make coverage   lines and branches that the tests reach (TESTS=)" \
	    "make lint       format, function sizes, warnings, static analysis" \
	    "make format     correct the format" \
	    "make deps       install what demo and tests need (Debian, Ubuntu)" \
	    "make clean      remove what was built" \
	    "Everywhere: V=1 shows commands, APXS= names another httpd's apxs."
