# Every file knows only the layers below it.
#
# Licensed under the Apache License, Version 2.0; see LICENSE.
# Looks at the #include lines of the sources at the top of the repository, at
# their words, and at the symbols fcgi_record.o leaves to others. A file that
# is not in the table fails: decide first what it may know.

use strict;
use warnings;
use File::Temp ();
use FindBin;
use Test::More;

# file => what its .c and .h may include of ours (its own header always).
my %MAY_INCLUDE = (
    mod_fastcgi_handler => [qw(fcgi_config fcgi_conftree
                               fcgi_declare fcgi_origin fcgi_trust
                               fcgi_untouched fcgi_script fcgi_env
                               fcgi_startup fcgi_await fcgi_parked
                               fcgi_ask
                               fcgi_conclude fcgi_backend fcgi_outcome
                               fcgi_notes fcgi_engine fcgi_status fcgi_terms
                               fcgi_log)],
    fcgi_await          => [qw(fcgi_ask fcgi_backend fcgi_bell fcgi_clock
                               fcgi_config fcgi_driver fcgi_log fcgi_outcome
                               fcgi_parked)],
    fcgi_engine         => [qw(fcgi_ask fcgi_await fcgi_conclude fcgi_config
                               fcgi_declare fcgi_env fcgi_known fcgi_log
                               fcgi_terms)],
    fcgi_conclude       => [qw(fcgi_ask fcgi_notes fcgi_replace fcgi_log)],
    fcgi_notes          => [qw(fcgi_ask)],
    fcgi_status         => [qw(fcgi_report fcgi_page fcgi_metrics fcgi_origin
                               fcgi_trust fcgi_log)],
    fcgi_page           => [qw(fcgi_clock fcgi_report fcgi_version)],
    fcgi_metrics        => [qw(fcgi_clock fcgi_report fcgi_version)],
    fcgi_report         => [qw(fcgi_clock fcgi_known fcgi_line fcgi_stats fcgi_tally)],
    fcgi_startup        => [qw(fcgi_clock fcgi_declare fcgi_known
                               fcgi_address fcgi_idle fcgi_notice
                               fcgi_room fcgi_spool fcgi_stats
                               fcgi_log)],
    fcgi_room           => [qw(fcgi_config fcgi_conftree fcgi_known
                               fcgi_log)],
    fcgi_trust          => [qw(fcgi_allow fcgi_config fcgi_conftree fcgi_known
                               fcgi_backend fcgi_origin fcgi_untouched)],
    fcgi_untouched      => [qw(fcgi_origin)],
    fcgi_origin         => [qw(fcgi_address fcgi_config fcgi_log)],
    fcgi_config         => [qw(fcgi_allow fcgi_declare fcgi_param fcgi_stderr
                               fcgi_log)],
    fcgi_allow          => [qw(fcgi_backend fcgi_known fcgi_path)],
    fcgi_conftree       => [qw(fcgi_known fcgi_log)],
    fcgi_declare        => [qw(fcgi_known fcgi_log)],
    fcgi_known          => [qw(fcgi_backend fcgi_path)],
    fcgi_script         => [qw(fcgi_address fcgi_config fcgi_origin)],
    fcgi_env            => [qw(fcgi_body fcgi_config fcgi_origin fcgi_param
                               fcgi_path fcgi_record)],
    fcgi_param          => [qw(fcgi_log)],
    fcgi_driver         => [qw(fcgi_clock fcgi_ask fcgi_socket)],
    fcgi_parked         => [qw(fcgi_park fcgi_wait fcgi_log)],
    fcgi_park           => [qw(fcgi_clock fcgi_wait)],
    fcgi_ask            => [qw(fcgi_acquire fcgi_client fcgi_exchange
                               fcgi_inflow fcgi_terms fcgi_wait fcgi_log)],
    fcgi_exchange       => [qw(fcgi_clock fcgi_backend fcgi_client fcgi_inflow
                               fcgi_response fcgi_record fcgi_socket
                               fcgi_writer fcgi_trace fcgi_outcome fcgi_outflow
                               fcgi_terms fcgi_wait fcgi_log)],
    fcgi_acquire        => [qw(fcgi_backend fcgi_backlog fcgi_idle
                               fcgi_wait)],
    fcgi_client         => [qw(fcgi_clock fcgi_socket fcgi_wait)],
    fcgi_inflow         => [qw(fcgi_body fcgi_outcome fcgi_spool
                               fcgi_terms)],
    fcgi_trace          => [qw(fcgi_record fcgi_log)],
    fcgi_writer         => [qw(fcgi_record fcgi_socket)],
    fcgi_response       => [qw(fcgi_config fcgi_outcome fcgi_outflow
                               fcgi_outlet fcgi_head
                               fcgi_replace fcgi_stderr fcgi_log)],
    fcgi_outflow        => [qw(fcgi_config fcgi_clock fcgi_outlet fcgi_spool
                               fcgi_log)],
    fcgi_outlet         => [],
    fcgi_replace        => [qw(fcgi_body fcgi_config fcgi_head fcgi_log
                               fcgi_outlet fcgi_path)],
    fcgi_head           => [],
    fcgi_stderr         => [qw(fcgi_log)],
    fcgi_backend        => [qw(fcgi_clock fcgi_address fcgi_backlog
                               fcgi_conn fcgi_line fcgi_idle fcgi_outcome
                               fcgi_wait)],
    fcgi_backlog        => [qw(fcgi_bell)],
    fcgi_notice         => [qw(fcgi_clock fcgi_idle fcgi_line fcgi_thread)],
    fcgi_idle           => [qw(fcgi_clock fcgi_conn fcgi_socket fcgi_thread)],
    fcgi_conn           => [qw(fcgi_clock fcgi_address fcgi_connect fcgi_line
                               fcgi_outcome fcgi_socket)],
    fcgi_socket         => [],
    fcgi_connect        => [qw(fcgi_clock fcgi_address fcgi_outcome fcgi_path)],
    fcgi_line           => [qw(fcgi_bell fcgi_stats)],
    fcgi_address        => [qw(fcgi_clock)],
    fcgi_clock          => [],
    fcgi_body           => [],
    fcgi_spool          => [],
    fcgi_path           => [],
    fcgi_stats          => [qw(fcgi_clock fcgi_slots fcgi_tally)],
    fcgi_slots          => [],
    fcgi_bell           => [],
    fcgi_thread         => [],
    fcgi_tally          => [qw(fcgi_clock fcgi_outcome)],
    fcgi_record         => [],
    fcgi_outcome        => [],
    fcgi_terms          => [qw(fcgi_body fcgi_config fcgi_spool)],
    # headers only
    fcgi_log            => [],
    fcgi_version        => [],
    fcgi_wait           => [qw(fcgi_clock)],
);

# The second module, in proxy/: of the first it knows one header.
my %PROXY_MAY_INCLUDE = (
    mod_proxy_fastcgi => [qw(proxy_balanced proxy_request proxy_url
                             proxy_variables proxy_worker)],
    proxy_balanced    => [qw(proxy_request proxy_worker)],
    proxy_worker      => [qw(proxy_request proxy_url)],
    proxy_url         => [qw(proxy_request proxy_variables)],
    proxy_variables   => [qw(proxy_request)],
    proxy_request     => [qw(fcgi_engine)],
);

# file => the only other headers it may include.
my %MAY_INCLUDE_OF_OTHERS = (
    fcgi_record => [qw(stddef.h stdint.h string.h)],
);

# file => headers and words it must not know.
my $SOCKETS = qr{^(?: apr_network_io | apr_poll | (?:sys/)?(?:poll|select)
                    | sys/(?:epoll|socket|un) | netinet/.* | arpa/inet | netdb
                 )\.h$}x;
my %NO_HEADERS = (
    fcgi_env      => $SOCKETS,
    fcgi_script   => $SOCKETS,
    fcgi_response => $SOCKETS,
    fcgi_body     => $SOCKETS,
    # sys/socket.h: a cut shows in a reset where nothing else can show it
    fcgi_outlet   => qr{^(?!sys/socket\.h$)$SOCKETS},
    fcgi_outflow  => $SOCKETS,
    fcgi_inflow   => $SOCKETS,
    fcgi_conclude => $SOCKETS,
    fcgi_spool    => $SOCKETS,
    fcgi_head     => $SOCKETS,
    fcgi_stderr   => $SOCKETS,
    fcgi_line     => $SOCKETS,
    fcgi_slots    => $SOCKETS,
    fcgi_bell     => $SOCKETS,
    fcgi_notice   => $SOCKETS,
    fcgi_stats    => $SOCKETS,
);
my %NO_WORDS = (
    (map { $_ => [qw(request_rec)] } qw(fcgi_acquire fcgi_backend fcgi_idle
                                        fcgi_conn fcgi_socket
                                        fcgi_connect fcgi_backlog
                                        fcgi_line fcgi_slots fcgi_bell
                                        fcgi_notice fcgi_thread
                                        fcgi_address fcgi_stats
                                        fcgi_known fcgi_allow fcgi_declare
                                        fcgi_conftree
                                        fcgi_startup fcgi_room fcgi_report
                                        fcgi_tally fcgi_park
                                        fcgi_wait)),
    fcgi_parked  => [qw(fcgi_exchange fcgi_conn fcgi_backend)],
    fcgi_head    => [qw(request_rec)],
);

# The time of day is for people: only these show it, or a file's. All others
# measure by fcgi_clock, and so no file compares the two.
my %KNOWS_TIME_OF_DAY = map { $_ => 1 } qw(fcgi_report fcgi_page fcgi_metrics
                                           fcgi_stats fcgi_response);
my @TIME_OF_DAY = qw(apr_time_t apr_time_now apr_time_exp_gmt apr_time_exp_lt
                     gettimeofday);

# What fcgi_record.o may leave to be linked.
my %MEMORY = map { $_ => 1 } qw(memcpy memmove memset memcmp
                                __stack_chk_fail _GLOBAL_OFFSET_TABLE_);

my $top = "$FindBin::Bin/..";

# The text of a file without its comments, which may name what they like.
sub code_of {
    my ($path) = @_;

    open(my $in, '<', $path) or die "$path: $!\n";
    my $text = do { local $/; <$in> };
    $text =~ s{/\*.*?\*/}{ }gs;
    return $text;
}

# "dir/x.h" of ours becomes x.h: no way around the table by another path.
sub includes_of {
    my ($code) = @_;
    my @names = $code =~ /^\s*#\s*include\s*([<"].*)$/mg;

    return map { m{^[<"](?:.*/)?((?:fcgi_|proxy_|mod_fastcgi|mod_proxy_)
                        \w+\.[ch])[>"]}x ? $1
                 : m{^[<"]([^>"]+)[>"]} ? $1 : $_ } @names;
}

sub is_ours {
    return $_[0] =~ /^(?:fcgi_|proxy_|mod_fastcgi|mod_proxy_)/;
}

sub check_includes {
    my ($name, $file, @includes) = @_;
    my %may = map { ("$_.h" => 1) }
        $name, @{ $MAY_INCLUDE{$name} || $PROXY_MAY_INCLUDE{$name} };

    my @wrong = grep { is_ours($_) && !$may{$_} } @includes;
    if (my $others = $MAY_INCLUDE_OF_OTHERS{$name}) {
        my %other = map { $_ => 1 } @$others;
        push @wrong, grep { !is_ours($_) && !$other{$_} } @includes;
    }
    if (my $banned = $NO_HEADERS{$name}) {
        push @wrong, grep { $_ =~ $banned } @includes;
    }
    is_deeply(\@wrong, [], "$file includes what it may know")
        or diag("$file must not include: @wrong");
}

sub check_words {
    my ($name, $file, $code) = @_;

    for my $word (@{ $NO_WORDS{$name} || [] },
                  $KNOWS_TIME_OF_DAY{$name} ? () : @TIME_OF_DAY) {
        unlike($code, qr/\b\Q$word\E\b/, "$file does not know $word");
    }
}

sub check_symbols_of_record {
    my $object = File::Temp->new(SUFFIX => '.o');
    my $cc = $ENV{CC} || 'gcc';

    # -O0 keeps the calls an optimizer would hide.
    is(system($cc, qw(-std=c99 -O0 -c -o), $object->filename,
              "$top/fcgi_record.c"), 0, 'fcgi_record.c compiles alone')
        or return;
    open(my $nm, '-|', 'nm', '-u', $object->filename) or die "nm: $!\n";
    my @symbols = map { /(\S+)$/ } <$nm>;
    ok(close($nm), 'nm reads fcgi_record.o');
    my @wrong = grep { !$MEMORY{$_} } @symbols;
    is_deeply(\@wrong, [], 'fcgi_record.o needs nothing but memory functions')
        or diag("fcgi_record.o needs @wrong");
}

my @paths = sort glob("$top/*.c $top/*.h");
ok(scalar(@paths), 'there are sources');
for my $path (@paths) {
    my ($file, $name) = $path =~ m{(([^/]+)\.[ch])$};
    ok($MAY_INCLUDE{$name}, "$file has a place in the layers") or next;
    my $code = code_of($path);
    check_includes($name, $file, includes_of($code));
    check_words($name, $file, $code);
    unlike($code, qr/include.*mod_proxy\.h/, "$file does not know mod_proxy");
}
for my $path (sort glob("$top/proxy/*.c $top/proxy/*.h")) {
    my ($file, $name) = $path =~ m{(([^/]+)\.[ch])$};
    ok($PROXY_MAY_INCLUDE{$name}, "$file has a place in proxy/") or next;
    check_includes($name, $file, includes_of(code_of($path)));
}
my @of_engine = grep { /^"/ } code_of("$top/fcgi_engine.h")
    =~ /^\s*#\s*include\s*([<"].*)$/mg;
is_deeply(\@of_engine, [], 'fcgi_engine.h is alone what proxy/ knows');

# The map in the README has them all, and nothing else.
my $readme = do { local (@ARGV, $/) = "$top/README.rst"; <> };
my @mapped = $readme =~ /^((?:mod_fastcgi_handler|fcgi_\w+))(?:\.[ch])? +\S/mg;
is_deeply([sort @mapped], [sort keys %MAY_INCLUDE],
          "the README's map has each file");
check_symbols_of_record() if -e "$top/fcgi_record.c";
done_testing();
