# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The fuzz targets: what each is made of. For t/fuzz/run, which has libFuzzer
# find inputs, and for t/09-fuzz.t, which replays those that were found. Knows
# nothing of what is tested.
package Fuzz;

use strict;
use warnings;

# What the conversation is made of: asking, from top to bottom.
my @ASKING = qw(fcgi_await fcgi_driver fcgi_ask fcgi_acquire fcgi_exchange
                fcgi_inflow fcgi_client fcgi_writer fcgi_response fcgi_replace
                fcgi_head fcgi_stderr fcgi_outflow fcgi_outlet fcgi_spool
                fcgi_backend fcgi_backlog fcgi_conn fcgi_bell fcgi_tally
                fcgi_outcome fcgi_body fcgi_conclude fcgi_notes fcgi_path
                fcgi_trace fcgi_record);

# The calls that the world of a conversation answers (t/fuzz/world.c).
my @WORLD = (qw(open setsockopt),
             map { "apr_$_" } qw(palloc poll os_sock_get socket_sendfile
                                 socket_close socket_atreadeof file_open
                                 file_dup file_mktemp));

# name => sources (.c files, of the top folder if there is no /), and what the
# linker is to wrap. With wrapped apr_palloc() each piece of memory has ends
# that are seen (t/unit/httpd_doubles.h).
our %TARGETS = (
    record       => { sources => [qw(t/fuzz/fuzz_record fcgi_record)] },
    head         => { sources => [qw(t/fuzz/fuzz_head fcgi_head)],
                      wrap    => ['apr_palloc'] },
    directives   => { sources => [qw(t/fuzz/fuzz_directives fcgi_config
                                     fcgi_declare fcgi_known fcgi_allow
                                     fcgi_param fcgi_address fcgi_path)],
                      wrap    => ['apr_palloc'] },
    conversation => { sources => [qw(t/fuzz/fuzz_conversation t/fuzz/world
                                     t/fuzz/world_httpd t/fuzz/decoder),
                                  @ASKING],
                      wrap    => \@WORLD },
);

# What CTest wants of a target.
sub parts_of {
    my ($name) = @_;
    my $target = $TARGETS{$name};

    # with stddef.h in front APR's rings do without pointers to nothing, which
    # clang's sanitizer would find
    return (sources => [map { "$_.c" } @{ $target->{sources} }],
            httpd => 1,
            flags => ['-D_GNU_SOURCE', '-pthread', '-include', 'stddef.h',
                      map { "-Wl,--wrap=$_" } @{ $target->{wrap} || [] }]);
}

sub names {
    my @names = sort keys %TARGETS;
    return @names;
}

1;
